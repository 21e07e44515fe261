"""Decision records from joined and weighed rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from agents.join import JoinedRows, StageRows
from agents.weigh.exploration import ExploredRows, Explorer
from models.onnx.weighed_models import DigestsByComponent
from models.weighting import WeightedScores
from topics.kafka import Headers, Record
from topics.pipeline import Pipeline, Topology
from topics.records import (
    ATTEMPT_HEADER,
    DECISION_SCHEMA,
    Bools,
    Ints,
    Provenance,
    Rows,
    Source,
    rfc3339_time,
    rfc3339_times,
    source_id,
)

_BY_SCORE, _BY_LATENESS = "score", "late"
_NONE = orjson.Fragment(b"{}")


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights in use: α by stage, and the version that decisions name."""

    values: Mapping[str, float]
    version: int
    """0 for weights fixed in the pipeline file."""
    learned_for: DigestsByComponent = field(default_factory=dict)
    """Component → digests of the models that they hold for; none of weights that are fixed."""
    digest: str | None = None
    """Of the card of learned weights."""
    quarantined: Sequence[str] = ()
    """Stages that weigh nothing for now, see `models.live_weights.quarantine`."""


@dataclass(frozen=True, slots=True)
class TakenDecisions:
    """What is decided of N rows."""

    names: Sequence[str]
    """The policy's decisions."""
    fallback: str | None
    """What is decided of rows that are late."""
    decided: Ints
    """By its place in `names` (N,); means nothing of a row that is late."""
    late: Bools
    """(N,)."""
    explored: ExploredRows | None = None
    """None where the policy does not explore."""

    def decision(self, row: int) -> str | None:
        """What is decided of a row."""
        return self.fallback if self.late[row] else self.names[self.decided[row]]

    def kinds(self, rows: Ints) -> dict[tuple[str, str], int]:
        """What is decided of *rows*, and by what → how often; those that never are, too."""
        late = self.late[rows]
        counts = np.bincount(self.decided[rows][~late], minlength=len(self.names)).tolist()
        kinds = {(name, _BY_SCORE): n for name, n in zip(self.names, counts, strict=True)}
        if self.fallback is not None:
            kinds[self.fallback, _BY_LATENESS] = int(late.sum())
        return kinds

    def explorations(self, rows: Ints) -> dict[tuple[str, str], int]:
        """What the policy says, and whether it was explored → how many of *rows*, if explorable."""
        if self.explored is None:
            return {}
        of, n = self.explored, len(self.names)
        counts = {
            result: np.bincount(of.by_policy[rows[chosen[rows]]], minlength=n).tolist()
            for result, chosen in (
                ("explored", of.explored),
                ("kept", of.explorable & ~of.explored),
            )
        }
        return {
            (self.names[at], result): counted[at]
            for result, counted in counts.items()
            for at in self.explored.of
        }


class DecisionWriter:
    """Writes `topics.records.decision.Decision` records of one pipeline."""

    def __init__(
        self, pipeline: Pipeline, weights: Weights, provenance: Provenance | None = None
    ) -> None:
        policy = pipeline.policy
        self._pipeline = pipeline.name
        self._events = Topology.of(pipeline).events
        self._weights = weights
        self._policy = f"{pipeline.name}@{policy.version}"
        named = {} if provenance is None else provenance.model_dump(exclude_defaults=True)
        self._provenance = {"provenance": orjson.Fragment(orjson.dumps(named))} if named else {}
        # Weights without any make the records that they made before there was a quarantine.
        taken = {"quarantined": [*weights.quarantined]}
        self._quarantined = taken if weights.quarantined else {}
        self._decisions = [policy.otherwise, *policy.thresholds]
        self._fallback = pipeline.weighting.fallback
        self._explorer = None
        if policy.explore is not None:
            self._explorer = Explorer(policy.explore, pipeline.name, self._events, self._decisions)
        self._thresholds = np.array(list(policy.thresholds.values()))
        self._fixed_headers: Headers = [
            ("content-type", b"application/json"),
            ("ce_specversion", b"1.0"),
            ("ce_type", b"anabranch.decision"),
            ("ce_source", f"anabranch/{pipeline.name}".encode()),
        ]

    def taken(
        self, partition: int, rows: Rows, scores: NDArray[np.float64], late: Bools | None = None
    ) -> TakenDecisions:
        """What is decided of N *rows* of a partition at these scores (N,).

        Where a row is *late* (N,) it is the pipeline file's decision for that.
        """
        late = np.zeros(len(scores), np.bool_) if late is None else late
        decided = np.searchsorted(self._thresholds, scores, "right")
        if self._explorer is None:
            return TakenDecisions(self._decisions, self._fallback, decided, late)
        explored = self._explorer.explore(partition, rows, decided, ~late)
        return TakenDecisions(self._decisions, self._fallback, explored.decided, late, explored)

    def records(
        self,
        partition: int,
        joined: JoinedRows,
        rows: Ints,
        weighed: WeightedScores,
        now_ms: int | Ints,
        *,
        attempt: int = 1,
        taken: TakenDecisions | None = None,
    ) -> Iterator[Record]:
        """The decision records of *rows*, in order; a later *attempt* is named in a header.

        All are decided at *now_ms*, or each of N at its own time. What is decided of them is
        *taken*; by their scores, where that is not given.
        """
        if taken is None:
            taken = self.taken(partition, joined.rows, weighed.scores)
        explored = {} if taken.explored is None else taken.explored.said(taken.names)
        keys, ids = joined.rows.keys.items(), joined.rows.ids.items()
        traces = joined.rows.traces.items() if joined.rows.traces is not None else None
        origins = joined.rows.origins.items() if joined.rows.origins is not None else None
        marked = _marked_rows(joined)
        offsets, times = joined.rows.offsets.tolist(), rfc3339_times(joined.rows.event_time_ms)
        latencies = np.maximum(now_ms - joined.rows.published_ms, 0).tolist()
        scores = weighed.scores.tolist()
        decided = taken.decided.tolist()
        stages = _StageColumns(joined, weighed)
        written_ms, decided_at, ce_times = _times_of(now_ms, len(offsets))
        fixed_headers = [*self._fixed_headers]
        if attempt > 1:
            fixed_headers.append((ATTEMPT_HEADER, b"%d" % attempt))
        for row in rows.tolist():
            contributions, missing = stages.row(row)
            is_late = bool(taken.late[row])
            source = {"topic": self._events, "partition": partition, "offset": offsets[row]}
            origin = Source.of(origins[row]) if origins is not None else None
            value = orjson.dumps({
                "schema": DECISION_SCHEMA,
                "event_id": ids[row].decode(errors="replace"),
                "pipeline": self._pipeline,
                "decision": self._fallback if is_late else self._decisions[decided[row]],
                "decided_by": _BY_LATENESS if is_late else _BY_SCORE,
                **explored.get(row, {}),
                "score": None if is_late else scores[row],
                "contributions": _NONE if is_late else contributions,
                "degraded": bool(missing),
                "missing": [*missing],
                "missing_because": missing,
                "weights": self._weights.version,
                "policy": self._policy,
                **self._quarantined,
                **self._provenance,
                **marked.get(row, {}),
                "source": source,
                **({} if origin is None else {"origin": origin.model_dump()}),
                "event_time": times[row],
                "decided_at": decided_at[row],
                "latency_ms": latencies[row],
            })  # fmt: skip
            ce_id = source_id(self._events, partition, offsets[row]).encode()
            headers = [("ce_id", ce_id), ce_times[row], *fixed_headers]
            if traces is not None and traces[row]:
                headers.append(("traceparent", traces[row]))
            yield Record(keys[row], value, written_ms[row], headers)


def _times_of(
    now_ms: int | Ints, n: int
) -> tuple[Sequence[int], Sequence[str], Sequence[tuple[str, bytes]]]:
    """When N rows are decided: in milliseconds, as text, and as a header."""
    if isinstance(now_ms, int):
        text = rfc3339_time(now_ms)
        return [now_ms] * n, [text] * n, [("ce_time", text.encode())] * n
    texts = rfc3339_times(now_ms)
    return now_ms.tolist(), texts, [("ce_time", text.encode()) for text in texts]


def _marked_rows(joined: JoinedRows) -> dict[int, dict[str, bool]]:
    """What there is to say of the few rows that are odd."""
    marked: dict[int, dict[str, bool]] = {}
    for name, rows in (("early", joined.early), ("clipped", joined.rows.clipped)):
        for row in [] if rows is None else np.flatnonzero(rows).tolist():
            marked.setdefault(row, {})[name] = True
    return marked


class _StageColumns:
    """Contributions by row, as JSON: what they have in numbers is written column by column."""

    def __init__(self, joined: JoinedRows, weighed: WeightedScores) -> None:
        self._stages = [
            (
                name,
                stage.present.tolist(),
                _contribution_texts(name, stage, weighed, column),
                stage.delivered.tolist(),
                stage.unanswered,
            )
            for column, (name, stage) in enumerate(joined.stages.items())
        ]

    def row(self, row: int) -> tuple[orjson.Fragment, dict[str, str]]:
        """The contributions of a row by stage, and the stages that are missing, each with why."""
        contributions: list[bytes] = []
        missing: dict[str, str] = {}
        for name, present, texts, answered, why in self._stages:
            if present[row]:
                contributions.append(texts[row])
            else:
                missing[name] = "failed" if answered[row] else why
        return orjson.Fragment(b"{" + b",".join(contributions) + b"}"), missing


def _contribution_texts(
    name: str, stage: StageRows, weighed: WeightedScores, column: int
) -> list[bytes]:
    """What a stage contributes to each of N rows, as a member of a JSON object."""
    begin = orjson.dumps(name) + b':{"signal":'
    ends = [b"," + orjson.dumps(run.model._asdict())[1:] for run in stage.models] or [b"}"]
    starts = np.array([run.start for run in stage.models] or [0])
    n = len(stage.present)
    model = np.maximum(starts.searchsorted(np.arange(n), "right") - 1, 0).tolist()
    return [
        b"".join((
            begin, signal, b',"weight":', weight, b',"contribution":', share, ends[model_of_row],
        ))
        for signal, weight, share, model_of_row in zip(
            _number_texts(stage.signal.astype(np.float64)),
            _number_texts(weighed.weights[:, column]),
            _number_texts(weighed.contributions[:, column]),
            model, strict=True,
        )
    ]  # fmt: skip


def _number_texts(numbers: NDArray[np.float64]) -> list[bytes]:
    """Each of *numbers* (N,) as JSON has it."""
    return orjson.dumps(numbers.tolist())[1:-1].split(b",") if len(numbers) else []
