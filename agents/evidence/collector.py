"""From topics and registry to the entries of a pack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.evidence.contents import (
    BACKGROUND,
    PIPELINE,
    POLICY,
    TRACE,
    WEIGHTS,
    Contents,
    model_entry,
)
from agents.evidence.errors import EventInFlight, EvidenceGone
from agents.evidence.packed_record import PackedRecord
from agents.evidence.sealing import sealed
from agents.explanations import EventRecords, VersionGone, model_of, place_of, recorded_decision
from agents.trace import Attempt, EventTrace, EventTracer, Hop, Place
from agents.workers import TailReader
from models.onnx.session import MOST_MODEL_BYTES
from models.registry import Registry, digest_of
from topics.file_content import read_file
from topics.pipeline import PipelineFile, Topology, in_order, pipeline_of
from topics.records import ControlState, Decision, ModelRef, Source, decode
from topics.redrive import decode_redrive, picked

_UNDECIDED = ("down", "late")
"""What a stage is missing for whose record, if it came at all, came after the decision."""


class EvidenceCollector:
    """Collects what is known of events of one pipeline."""

    def __init__(
        self, tail: TailReader, file: PipelineFile, registry: Registry, control: ControlState
    ) -> None:
        self._tail, self._file, self._pipeline = tail, file, file.pipeline
        self._registry, self._control = registry, control
        self._topology = Topology.of(file.pipeline)
        self._records = EventRecords(tail, self._topology)

    async def collect(self, source: Source) -> dict[str, bytes]:
        """The entries of the pack of the event at *source*, `manifest.json` first.

        Raises EventInFlight, EvidenceGone, EventGone, VersionGone and RegistryError.
        """
        trace = await EventTracer(self._tail, self._pipeline).trace(source)
        last = trace.attempts[-1]
        if last.end is None:
            raise EventInFlight(source, self._pipeline.name, trace.waits_for)
        if trace.published is None:
            raise EvidenceGone(source, trace.not_known[0])
        records = await self._packed(trace)
        decided = recorded_decision(records[-1].record)
        file = self._file if decided is None else self._deciding_file(decided.decision)
        if file is not self._file:
            of_it = EvidenceCollector(self._tail, file, self._registry, self._control)
            return await of_it.collect(source)
        entries = {PIPELINE: file.content}
        for packed in records:
            entries |= packed.entries()
        entries[TRACE] = trace.model_dump_json(indent=2, by_alias=True).encode()
        contents = Contents([*entries], entries.__getitem__, source)
        entries |= self._models(contents)
        if contents.decision is not None:
            entries |= self._decided_by(contents.decision)
        return sealed(entries, source, event_id=trace.event_id, attempt=last.attempt)

    async def _packed(self, trace: EventTrace) -> list[PackedRecord]:
        """All records about the event, each of it alone; the one that it ended in is the last."""
        source, packed = trace.source, [PackedRecord(await self._at(trace.source))]
        packed += [await self._stage(hop, source) for hop in _deciding_hops(trace.attempts[0])]
        for attempt in trace.attempts:
            for step in attempt.steps:
                record = await self._at(_place(step.record))
                packed.append(_one_event(record, source))
            if attempt.end is not None:
                packed.append(PackedRecord(await self._at(_place(attempt.end.record))))
        return packed

    async def _at(self, place: Source) -> ConsumerRecord:
        record = await self._records.at(place)
        if record is None:
            raise EvidenceGone(place, "it is gone by retention")
        return record

    async def _stage(self, hop: Hop, source: Source) -> PackedRecord:
        """What a component said of the event."""
        if hop.record is None:
            topic = self._topology.stage(hop.component)
            raise EvidenceGone(source, f"{topic} no longer has what {hop.component} said of it")
        record = await self._at(_place(hop.record))
        batch = decode(record.value, dict(record.headers))
        (row,) = picked([batch], np.array([source.offset], np.int64))
        return PackedRecord.of_stage(record, batch, row)

    def _models(self, contents: Contents) -> Iterator[tuple[str, bytes]]:
        """The models that have made the event's rows."""
        for name in in_order(self._pipeline):
            row = contents.rows.get(name)
            if self._pipeline.component(name).model is not None and row is not None:
                model = model_of(row)
                yield model_entry(model.digest), self._model(name, model)

    def _model(self, component: str, model: ModelRef) -> bytes:
        """The bytes of that model. Raises VersionGone."""
        place = place_of(self._file, self._registry, component, model)
        return read_file(place, MOST_MODEL_BYTES) if isinstance(place, Path) else place.read()

    def _decided_by(self, decision: Decision) -> Iterator[tuple[str, bytes]]:
        """Policy, weights and background rows. Raises VersionGone."""
        yield POLICY, self._policy(decision)
        if decision.weights == 0:
            return
        name, registry = f"weights@{decision.weights}", self._registry
        if decision.weights not in registry.weights_versions(self._pipeline.name):
            raise VersionGone(name, f"the registry {registry.root}")
        weights = registry.weights(self._pipeline.name, decision.weights)
        yield WEIGHTS, weights.read()
        if weights.background_digest is not None:
            yield BACKGROUND, weights.background().to_bytes()

    def _deciding_file(self, decision: Decision) -> PipelineFile:
        """The pipeline file that the decision names: the one that is given, or as it once was.

        The given one where the decision is from before decisions named it. Raises RegistryError.
        """
        named = decision.provenance
        if named is None or digest_of(self._file.content) == named.pipeline_file:
            return self._file
        content = self._registry.kept(self._pipeline.name, named.pipeline_file)
        return pipeline_of(self._file.path, content)

    def _policy(self, decision: Decision) -> bytes:
        """The policy that the decision names, by digest; before there was one, by its version.

        Raises VersionGone and RegistryError.
        """
        deployed = self._control.policy
        known = [] if deployed is None else [deployed.policy, deployed.previous]
        policies = [policy for policy in (*known, self._pipeline.policy) if policy is not None]
        if decision.provenance is not None:
            named = decision.provenance.policy
            contents = (policy.content for policy in policies)
            own = (content for content in contents if digest_of(content) == named)
            return next(own, None) or self._registry.kept(self._pipeline.name, named)
        for policy in policies:
            if decision.policy == f"{self._pipeline.name}@{policy.version}":
                return policy.content
        places = f"{self._topology.control}, nor in {self._file.path}"
        raise VersionGone(f"the policy {decision.policy}", places)


def _deciding_hops(first: Attempt) -> list[Hop]:
    """Those whose records there were when the attempt ended."""
    hops = {hop.component: hop for hop in first.hops}
    away = {name for name, hop in hops.items() if hop.missing in _UNDECIDED}
    wanted = [name for name, hop in hops.items() if hop.weight is not None or hop.record]
    return [hops[name] for name in wanted if name not in away]


def _one_event(record: ConsumerRecord, source: Source) -> PackedRecord:
    """A redrive record with what it says of the event alone."""
    batch = decode_redrive(record.key, record.value, record.headers)
    place = [event.offset for event in batch.events].index(source.offset)
    return PackedRecord.of_redrive(record, len(batch), batch.picked(np.array([place])))


def _place(place: Place) -> Source:
    return Source(topic=place.topic, partition=place.partition, offset=place.offset)
