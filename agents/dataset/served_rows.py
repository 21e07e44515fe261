"""Recorded blocks as rows of a data set: one for each valid event.

Columns are the event's coordinates and fields; `<stage>.<feature>` and, of own code,
`<stage>.output`; `signal.<stage>` and `model.<stage>`; how the event ended; and its outcome. What
was not there is null: also the label of an event whose outcome is not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from agents.dataset.arrow_columns import arrow_field, arrow_times, arrow_type, time_type
from agents.dataset.backfill import BackfilledFeatures, backfilled_components
from agents.dataset.errors import OtherFeatures
from agents.dataset.outcome_store import EventNames, OutcomeStore
from agents.join import StageRows
from agents.replay.recorded_range import RecordedBlock
from models.arrays import Bools, Ints
from models.features import FeatureVector
from topics.events import EventDecoder
from topics.pipeline import OUTCOME, ComponentSpec, Pipeline, duration_ms
from topics.records import Decision, error_of_letter

PARTITION, OFFSET, PUBLISHED = "source_partition", "source_offset", "published_at"
OUTCOME_AT, DEAD_LETTER = "outcome_published_at", "dead_letter"
_DAY_MS = 86_400_000
KNOWN_AT, SAID_BY = "outcome_known_at", "outcome_source"

Table = Any
"""A pyarrow.Table: pyarrow has no types."""


@dataclass(slots=True)
class RowCounts:
    """What became of the events that were read."""

    events: int = 0
    invalid: int = 0
    """Events that are none: their fields are not known."""
    immature: int = 0
    """Events that are younger than outcomes take."""
    unlabelled: int = 0
    """Rows whose outcome is not known."""
    rows: int = 0
    positives: int = 0
    undecided: int = 0
    """Rows without a decision: in flight, dead letters, or decided when they were redriven."""
    foreign: int = 0
    """Records among the decisions that are none of the pipeline's."""
    not_backfilled: int = 0
    explored: int = 0
    explorable: int = 0
    decisions: Counter[str] = field(default_factory=Counter)


class ServedRows:
    """Makes rows of blocks. `mature_before_ms`: event times from that on are left out."""

    def __init__(
        self, pipeline: Pipeline, outcomes: OutcomeStore, *, mature_before_ms: int | None,
        labelled_only: bool,
    ) -> None:  # fmt: skip
        self._pipeline, self._outcomes = pipeline, outcomes
        self._before_ms, self._labelled_only = mature_before_ms, labelled_only
        self._decoder = EventDecoder(pipeline.event)
        self._computable = {spec.name for spec in backfilled_components(pipeline)}
        self.counts = RowCounts()
        self.schema = self._schema()

    def table(
        self, block: RecordedBlock, backfilled: Mapping[str, BackfilledFeatures] | None = None
    ) -> Table:
        """The rows of *block*; features of some components are *backfilled*.

        Raises OtherFeatures where a component wrote another number of features than the pipeline
        file has now.
        """
        import pyarrow as pa

        decoded, counts = self._decoder.decode(block.events), self.counts
        schema, rows = self._pipeline.event, decoded.valid
        counts.events += len(block)
        counts.invalid += len(block) - len(rows)
        counts.foreign += block.foreign
        times_ms: Ints = decoded.columns[schema.time]
        kept = np.ones(len(rows), np.bool_)
        if self._before_ms is not None:
            kept = times_ms < self._before_ms
            counts.immature += int((~kept).sum())
        names = EventNames(decoded.columns[schema.id][kept], decoded.columns[schema.key][kept])
        outcomes = self._outcomes.of(names)
        counts.unlabelled += int((~outcomes.known).sum())
        if self._labelled_only:
            kept[np.flatnonzero(kept)[~outcomes.known]] = False
            outcomes = outcomes.of_known()
        rows = rows[kept]
        columns: dict[str, Any] = {
            PARTITION: pa.array(np.full(len(rows), block.partition), pa.int32()),
            OFFSET: pa.array(block.offsets[rows]),
            PUBLISHED: arrow_times([block.events[row].timestamp for row in rows.tolist()]),
        }
        for name, of in schema.fields.items():
            columns[name] = arrow_field(decoded.columns[name][kept], of)
        for spec in self._pipeline.components:
            features = (backfilled or {}).get(spec.name)
            columns |= _stage(
                spec, block.stage_rows(spec.name), rows, features,
                can_be_backfilled=spec.name in self._computable,
            )  # fmt: skip
            if features is not None:
                counts.not_backfilled += int((~features.present[rows]).sum())
        columns |= self._endings(block, rows)
        columns[OUTCOME] = pa.array(outcomes.positive, mask=~outcomes.known)
        columns[OUTCOME_AT] = arrow_times(outcomes.published_ms, ~outcomes.known)
        columns[KNOWN_AT] = arrow_times(outcomes.known_ms, ~outcomes.known)
        sources = [source or None for source in outcomes.sources.tolist()]
        columns[SAID_BY] = pa.array(sources, pa.string()).dictionary_encode()
        counts.rows += len(rows)
        counts.positives += int((outcomes.known & outcomes.positive).sum())
        return pa.table(columns, schema=self.schema)

    def _endings(self, block: RecordedBlock, rows: Ints) -> dict[str, Any]:
        """How the events at *rows* ended."""
        import pyarrow as pa

        decisions: list[Decision | None] = []
        for offset in block.offsets[rows].tolist():
            record = block.decisions.get(offset)
            try:
                decided = None if record is None else Decision.model_validate_json(record.value)
            except ValueError:  # a record that is no decision says nothing
                decided, self.counts.foreign = None, self.counts.foreign + 1
            decisions.append(decided)
        letters = [block.dead_letters.get(offset) for offset in block.offsets[rows].tolist()]
        self.counts.undecided += decisions.count(None)
        there = [each for each in decisions if each is not None]
        self.counts.decisions.update(each.decision for each in there)
        self.counts.explored += sum(each.explored for each in there)
        self.counts.explorable += sum(each.propensity < 1 for each in there)

        def said(name: str) -> list[Any]:
            return [None if each is None else getattr(each, name) for each in decisions]

        return {
            "decision": pa.array(said("decision"), pa.string()).dictionary_encode(),
            "explored": pa.array(said("explored"), pa.bool_()),
            "instead_of": pa.array(said("instead_of"), pa.string()).dictionary_encode(),
            "propensity": pa.array(said("propensity"), pa.float64()),
            "score": pa.array(said("score"), pa.float64()),
            "degraded": pa.array(said("degraded"), pa.bool_()),
            "early": pa.array(said("early"), pa.bool_()),
            "clipped": pa.array(said("clipped"), pa.bool_()),
            "weights": pa.array(said("weights"), pa.int64()),
            "policy": pa.array(said("policy"), pa.string()).dictionary_encode(),
            "decided_at": pa.array(
                [None if at is None else datetime.fromisoformat(at) for at in said("decided_at")],
                time_type(),
            ),
            DEAD_LETTER: pa.array(
                [None if letter is None else error_of_letter(letter.headers) for letter in letters],
                pa.string(),
            ).dictionary_encode(),
        }

    def _schema(self) -> Any:
        """The types of all columns, in their order."""
        import pyarrow as pa

        names = pa.dictionary(pa.int32(), pa.string())
        fields = [(PARTITION, pa.int32()), (OFFSET, pa.int64()), (PUBLISHED, time_type())]
        fields += [(name, arrow_type(of)) for name, of in self._pipeline.event.fields.items()]
        for spec in self._pipeline.components:
            fields += [(f"{spec.name}.{column}", pa.float32()) for column in _features(spec)]
            if spec.import_path is not None:
                fields.append((f"{spec.name}.output", pa.list_(pa.float32())))
            if _has_signal(spec):
                fields += [(f"signal.{spec.name}", pa.float32()), (f"model.{spec.name}", names)]
        fields += [
            ("decision", names), ("explored", pa.bool_()), ("instead_of", names),
            ("propensity", pa.float64()), ("score", pa.float64()), ("degraded", pa.bool_()),
            ("early", pa.bool_()), ("clipped", pa.bool_()), ("weights", pa.int64()),
            ("policy", names), ("decided_at", time_type()), (DEAD_LETTER, names),
            (OUTCOME, pa.bool_()), (OUTCOME_AT, time_type()), (KNOWN_AT, time_type()),
            (SAID_BY, names),
        ]  # fmt: skip
        return pa.schema(fields)


def maturity_ms(pipeline: Pipeline, now_ms: int, days: float | None = None) -> int:
    """Events before that time have an outcome by now, where they ever get one.

    That is by the pipeline file's `outcomes: delay`, or by so many *days*.
    """
    delay_ms = duration_ms(pipeline.outcomes.delay) if days is None else int(days * _DAY_MS)
    return now_ms - delay_ms


def _features(spec: ComponentSpec) -> list[str]:
    return [] if spec.features is None else FeatureVector(spec.features).names


def _has_signal(spec: ComponentSpec) -> bool:
    return spec.model is not None or spec.import_path is not None


def _stage(
    spec: ComponentSpec, stage: StageRows, rows: Ints, backfilled: BackfilledFeatures | None, *,
    can_be_backfilled: bool,
) -> dict[str, Any]:  # fmt: skip
    """What a component said of the events at *rows*; its features may be *backfilled*."""
    import pyarrow as pa

    absent: Bools = ~stage.present[rows]
    columns: dict[str, Any] = {}
    output, lacking, names = stage.output[rows], absent, _features(spec)
    if backfilled is not None:
        output, lacking = backfilled.values[rows], ~backfilled.present[rows]
    elif names and stage.present.any() and output.shape[1] != len(names):
        raise OtherFeatures(
            spec.name, output.shape[1], len(names), can_be_backfilled=can_be_backfilled
        )
    for place, name in enumerate(names):
        values = (
            np.zeros(len(rows), np.float32)
            if lacking.all()
            else output[:, place].astype(np.float32)
        )
        columns[f"{spec.name}.{name}"] = pa.array(values, mask=lacking)
    if spec.import_path is not None:
        listed = [None if gone else row for gone, row in zip(absent, output.tolist(), strict=True)]
        columns[f"{spec.name}.output"] = pa.array(listed, pa.list_(pa.float32()))
    if _has_signal(spec):
        signal = stage.signal[rows].astype(np.float32)
        columns[f"signal.{spec.name}"] = pa.array(signal, mask=absent)
        starts = np.array([run.start for run in stage.models], np.int64)
        run_of = np.maximum(starts.searchsorted(rows, "right") - 1, 0)
        models = [run.model.model for run in stage.models] or [""]
        columns[f"model.{spec.name}"] = pa.DictionaryArray.from_arrays(
            pa.array(run_of.astype(np.int32), mask=absent), pa.array(models, pa.string())
        )
    return columns
