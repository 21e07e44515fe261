"""What a pack holds about its event, read from its entries.

manifest.json      what is in it, and where it was made (`manifest`)
records/…          the event; what components said of it; dead letters, redrives, the decision
pipeline.yaml      the pipeline file
policy.json        the thresholds that decided
weights.json       the learned weights that decided, and what is known of them
background.npz     the rows that the explanation compares the event with
models/….onnx      the models that have spoken, by digest
explanation.json   what each group of features added to the score
trace.json         the event's way, for people: nothing is derived from it
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile

from agents.evidence.packed_record import PackedRecord, packed_record, stems
from agents.explanations import Explanation, RedriveRecord, recorded_decision
from agents.redrive import DeadLetter, event_id_of
from models.registry import Background, StoredWeights, weights_card
from topics.pipeline import WEIGH, Pipeline, Topology, pipeline_of
from topics.records import Decision, Source, StageBatch, attempt_of, decode
from topics.redrive import RedrivenEvent, decode_redrive

PIPELINE, POLICY, WEIGHTS = "pipeline.yaml", "policy.json", "weights.json"
BACKGROUND, EXPLANATION, TRACE = "background.npz", "explanation.json", "trace.json"
_MODELS, _ONNX = "models/", ".onnx"
_SHA256 = "sha256:"


def model_entry(digest: str) -> str:
    """What the model of that digest is called.

    >>> model_entry("sha256:00ff")
    'models/00ff.onnx'
    """
    return f"{_MODELS}{digest.removeprefix(_SHA256)}{_ONNX}"


@dataclass(slots=True)
class _Records:
    """The records of a pack by what they are."""

    event: PackedRecord | None = None
    decided: PackedRecord | None = None
    stages: dict[str, PackedRecord] = field(default_factory=dict)
    letters: list[PackedRecord] = field(default_factory=list)
    redrives: list[PackedRecord] = field(default_factory=list)


class Contents:
    """What stands in the entries of a pack; each property raises ValueError for nonsense in it."""

    def __init__(self, names: Sequence[str], read: Callable[[str], bytes], source: Source) -> None:
        """*read* gives an entry's content, KeyError where there is none."""
        self.names, self._read, self.source = [*names], read, source

    def read(self, name: str) -> bytes:
        """An entry. Raises ValueError where the pack has none of that name."""
        try:
            return self._read(name)
        except KeyError as exc:
            raise ValueError(f"the pack has no {name}") from exc

    @cached_property
    def pipeline(self) -> Pipeline:
        """Raises PipelineFileError."""
        return pipeline_of(Path(PIPELINE), self.read(PIPELINE), looks_up=False).pipeline

    @cached_property
    def topology(self) -> Topology:
        """The pipeline's."""
        return Topology.of(self.pipeline)

    @cached_property
    def records(self) -> _Records:
        """All of them; one that is none of the pipeline's is nonsense."""
        topology, records = self.topology, _Records()
        stages = {topology.stage(name): name for name in topology.components}
        keyed = {topology.keyed(name) for name in topology.repartitioned}
        for stem in stems(self.names):
            packed = packed_record(stem, self.names, self.read)
            topic = packed.record.topic
            if topic == topology.events:
                records.event = _only(records.event, packed)
            elif topic == topology.decisions:
                records.decided = _only(records.decided, packed)
            elif topic == topology.dead_letters:
                records.letters.append(packed)
            elif topic == topology.redrive:
                records.redrives.append(packed)
            elif topic in stages:
                name = stages[topic]
                records.stages[name] = _only(records.stages.get(name), packed)
            elif topic not in keyed:
                raise ValueError(f"{topic} is no topic of pipeline {topology.pipeline}")
        return records

    @property
    def event(self) -> PackedRecord:
        """The source record."""
        if self.records.event is None:
            raise ValueError(f"no record of {self.topology.events} is in it")
        return self.records.event

    @cached_property
    def decision(self) -> Decision | None:
        """None of a dead event."""
        decided = self.records.decided
        if decided is None:
            return None
        recorded = recorded_decision(decided.record)
        if recorded is None:
            raise ValueError("its decision record is none")
        return recorded.decision

    @property
    def attempt(self) -> int:
        """At which the event was decided; of a dead one, 0."""
        decided = self.records.decided
        return 0 if decided is None else attempt_of(decided.record.headers)

    @cached_property
    def stages(self) -> dict[str, StageBatch]:
        """What components said of the event at its first attempt: a row each."""
        return {
            name: _row(decode(packed.record.value, dict(packed.record.headers)), self.source)
            for name, packed in self.records.stages.items()
        }

    @cached_property
    def redrives(self) -> list[RedriveRecord]:
        """The redrive records that the event travelled in, alone."""
        return [_redrive(packed, self.source) for packed in self.records.redrives]

    @property
    def rows(self) -> dict[str, StageBatch]:
        """What the decision was made of: a row each; of a dead event what is known of it."""
        if self.attempt <= 1:
            return self.stages
        for redrive in self.redrives:
            if redrive.attempt == self.attempt and redrive.batch.next == WEIGH:
                return redrive.outputs_of(self.source)
        raise ValueError(f"no redrive record to {WEIGH} of attempt {self.attempt} is in it")

    @cached_property
    def letters(self) -> list[DeadLetter]:
        """The event's dead letters, by attempt."""
        id_field = self.pipeline.event.id
        letters = [DeadLetter.of(each.record, id_field) for each in self.records.letters]
        return sorted(letters, key=lambda letter: letter.attempt)

    @property
    def event_ids(self) -> list[str]:
        """What the records of a dead event call it: one id, unless somebody made them up."""
        own = event_id_of(self.event.record.value, self.pipeline.event.id)
        ids = [row.rows.ids.items()[0].decode(errors="replace") for row in self.stages.values()]
        return [*dict.fromkeys(filter(None, [own, *ids]))]

    def event_of(self, attempt: int) -> RedrivenEvent | None:
        """The event as a later attempt had it, which may be edited; None where nothing says."""
        for redrive in self.redrives:
            event = redrive.batch.events[0]
            if redrive.attempt == attempt and event.value is not None:
                return event
        return None

    @cached_property
    def weights(self) -> StoredWeights | None:
        """Those that decided; None where the pipeline file fixes them, or nothing was decided.

        Raises CardUnreadable.
        """
        decision = self.decision
        if decision is None or decision.weights == 0:
            return None
        return weights_card(self.read(WEIGHTS), decision.weights, WEIGHTS)

    @cached_property
    def background(self) -> Background:
        """The background rows."""
        content = self.read(BACKGROUND)
        try:
            with ZipFile(io.BytesIO(content)) as file:
                if any(entry.compress_type != ZIP_STORED for entry in file.infolist()):
                    raise ValueError(f"{BACKGROUND} is compressed, as the registry never writes it")
        except BadZipFile as exc:
            raise ValueError(f"{BACKGROUND} holds no rows") from exc
        return Background.from_bytes(content)

    @cached_property
    def explanation(self) -> Explanation | None:
        """None where there is none."""
        if EXPLANATION not in self.names:
            return None
        return Explanation.model_validate_json(self.read(EXPLANATION))


def _only(before: PackedRecord | None, packed: PackedRecord) -> PackedRecord:
    if before is not None:
        raise ValueError(f"two records of {packed.record.topic} are in it")
    return packed


def _row(batch: StageBatch, source: Source) -> StageBatch:
    place = (batch.topic, batch.partition, *batch.rows.offsets.tolist())
    if place != (source.topic, source.partition, source.offset):
        raise ValueError(f"what {batch.component} said is not about this event alone")
    return batch


def _redrive(packed: PackedRecord, source: Source) -> RedriveRecord:
    record = packed.record
    batch = decode_redrive(record.key, record.value, record.headers, outputs=False)
    place = (batch.topic, batch.partition, *(event.offset for event in batch.events))
    if place != (source.topic, source.partition, source.offset):
        raise ValueError("a redrive record is not about this event alone")
    return RedriveRecord(record, batch, batch.events[0].attempt)
