"""Decisions as columns: what watchers are given of them, and what waits for outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import nan
from typing import Annotated, Any, NamedTuple, NotRequired, Self

import numpy as np
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic's, before Python 3.12

from models.arrays import Bools, Floats64, Ints
from topics.events import epoch_ms
from topics.pipeline import Pipeline, Topology
from topics.records import Share, attempt_of

_MOST_VERSION = 2**31


class _Contribution(TypedDict):
    signal: Share
    weight: Share
    model: str
    digest: str


class _Place(TypedDict):
    topic: str
    partition: Annotated[int, Field(ge=0, lt=2**31)]
    offset: Annotated[int, Field(ge=0, le=2**62)]


class _Decision(TypedDict):
    """What is needed here of `topics.records.Decision`, which takes twice the time."""

    event_id: str
    decision: str
    score: Share | None
    contributions: dict[str, _Contribution]
    weights: Annotated[int, Field(ge=0, le=_MOST_VERSION)]
    policy: str
    missing_because: NotRequired[dict[str, str]]
    explored: NotRequired[bool]
    propensity: NotRequired[Annotated[float, Field(gt=0, le=1)] | None]
    source: _Place
    event_time: str
    decided_at: str


_DECISION = TypeAdapter(_Decision).validator


class StageModel(NamedTuple):
    """The model that a stage's signal came of."""

    stage: str
    model: str
    """component@version."""
    digest: str


Models = tuple[StageModel, ...]
"""Those of one decision, by stage."""


@dataclass(frozen=True, slots=True)
class DecisionBatch:
    """N decisions and their S weighed stages, in the order of the pipeline file."""

    stages: Sequence[str]
    """The weighed stages (S)."""
    partitions: Ints
    """Of the events, and of the decision records (N,)."""
    offsets: Ints
    """Source offsets: of the events (N,)."""
    log_offsets: Ints
    """Of the decision records (N,)."""
    ids: Sequence[str]
    """Event ids (N)."""
    keys: Sequence[str]
    """Record keys (N)."""
    event_ms: Ints
    """Event times (N,)."""
    decided_ms: Ints
    """(N,)"""
    scores: Floats64
    """(N,); NaN for one without a score."""
    signals: Floats64
    """(N, S); NaN where a stage gave none."""
    alphas: Floats64
    """The weights by which the signals count (N, S); NaN where a stage gave none."""
    failed: Bools
    """Which stages failed on the event (N, S): they were neither down nor late. Of decisions that
    have waited for outcomes it is not known any more: False."""
    decided: Sequence[str]
    """What was decided (N)."""
    models: Sequence[Models]
    """(N)"""
    weights: Ints
    """Versions of the weights (N,); 0 for those that the pipeline file fixes."""
    policies: Sequence[str]
    """pipeline@version (N)."""
    explored: Bools
    """Taken by chance instead of what the policy says of the score (N,)."""
    propensity: Floats64
    """The probability of the decision, given the score (N,): 1 where nothing is explored."""

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def contributions(self) -> Floats64:
        """What each stage adds to the score (N, S)."""
        return self.alphas * self.signals

    def take(self, rows: Ints | Bools) -> Self:
        """These rows of it."""
        picked = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        places = picked.tolist()
        columns: dict[str, Any] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            if field.name != "stages":
                is_array = isinstance(column, np.ndarray)
                columns[field.name] = column[picked] if is_array else [column[at] for at in places]
        return replace(self, **columns)


@dataclass(frozen=True, slots=True)
class MatchedOutcomes:
    """What is known now of N decisions, and what was known of them before."""

    decisions: DecisionBatch
    positive: Bools
    """What is true now (N,)."""
    before: Ints
    """What was true before (N,): 0 or 1, and -1 where nothing was known. Another one than now is a
    reversal: whoever has counted the old one takes it back. It is never the same as now."""
    sources: Sequence[str]
    """Who says so (N); empty for nobody."""
    known_ms: Ints
    """Since when it is known (N,)."""

    def __len__(self) -> int:
        return len(self.positive)

    def take(self, rows: Bools) -> MatchedOutcomes:
        """Those rows (N,) of it."""
        sources = [source for source, is_kept in zip(self.sources, rows, strict=True) if is_kept]
        return MatchedOutcomes(
            self.decisions.take(rows), self.positive[rows], self.before[rows], sources,
            self.known_ms[rows],
        )  # fmt: skip


class DecisionDecoder:
    """Decodes records of `<pipeline>.decisions`; others among them are counted."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._stages = pipeline.weighting.inputs
        self._events = Topology.of(pipeline).events
        self._known: dict[Models, Models] = {}
        self.foreign = 0
        """Records so far that are no decisions of the pipeline."""
        self.redriven = 0
        """Decisions so far at a later attempt: the first attempt's dead letter was its end."""

    def decode(self, records: Sequence[Any], partition: int) -> DecisionBatch:
        """Those of *records* of that partition that are decisions, in order."""
        rows: list[tuple[Any, _Decision, int, int]] = []
        for record in records:
            try:
                decision: _Decision = _DECISION.validate_json(record.value or b"")
                source = decision["source"]
                if (source["topic"], source["partition"]) != (self._events, partition):
                    raise ValueError("about another topic's event")
                times = epoch_ms(decision["event_time"]), epoch_ms(decision["decided_at"])
                self.redriven += attempt_of(record.headers) > 1
            except ValueError:  # pydantic's too
                self.foreign += 1
            else:
                rows.append((record, decision, *times))
        said = [decision["contributions"] for _, decision, _, _ in rows]
        return DecisionBatch(
            stages=self._stages,
            partitions=np.full(len(rows), partition, np.int64),
            offsets=np.array([row["source"]["offset"] for _, row, _, _ in rows], np.int64),
            log_offsets=np.array([record.offset for record, *_ in rows], np.int64),
            ids=[row["event_id"] for _, row, _, _ in rows],
            keys=[(record.key or b"").decode(errors="replace") for record, *_ in rows],
            event_ms=np.array([at for _, _, at, _ in rows], np.int64),
            decided_ms=np.array([at for _, _, _, at in rows], np.int64),
            scores=np.array(
                [nan if (score := row["score"]) is None else score for _, row, _, _ in rows],
                np.float64,
            ),
            signals=self._matrix(said, "signal"), alphas=self._matrix(said, "weight"),
            failed=self._failed([row for _, row, _, _ in rows]),
            decided=[row["decision"] for _, row, _, _ in rows],
            models=[self._models(each) for each in said],
            weights=np.array([row["weights"] for _, row, _, _ in rows], np.int64),
            policies=[row["policy"] for _, row, _, _ in rows],
            explored=np.array([row.get("explored", False) for _, row, _, _ in rows], np.bool_),
            propensity=np.array([row.get("propensity") or 1.0 for _, row, _, _ in rows]),
        )  # fmt: skip

    def _matrix(self, said: Sequence[Mapping[str, _Contribution]], what: str) -> Floats64:
        values: list[Any] = [
            [each[stage][what] if stage in each else nan for stage in self._stages]  # type: ignore[literal-required]  # one of two names
            for each in said
        ]
        return np.array(values, np.float64).reshape(len(said), len(self._stages))

    def _failed(self, rows: Sequence[_Decision]) -> Bools:
        because = [row.get("missing_because", {}) for row in rows]
        failed = [[each.get(stage) == "failed" for stage in self._stages] for each in because]
        return np.array(failed, np.bool_).reshape(len(rows), len(self._stages))

    def _models(self, said: Mapping[str, _Contribution]) -> Models:
        models = tuple(
            StageModel(stage, said[stage]["model"], said[stage]["digest"])
            for stage in self._stages
            if stage in said
        )
        return self._known.setdefault(models, models)  # one object for all decisions of a version
