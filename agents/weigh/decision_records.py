"""Decision records from joined and weighed rows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from agents.join import JoinedRows
from models.onnx.weighed_models import Learned
from models.weighting import Weighed
from topics.kafka import Headers, Record
from topics.pipeline import Pipeline, Topology
from topics.records import ATTEMPT, SCHEMA, Bools, Ints, rfc3339, rfc3339_all, source_id


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights in use: α by stage, and the version that decisions name."""

    values: Mapping[str, float]
    version: int
    """0 for weights fixed in the pipeline file."""
    learned_for: Learned = field(default_factory=dict)
    """Component → digests of the models that they hold for; none of weights that are fixed."""


class DecisionWriter:
    """Writes `topics.records.decision.Decision` records of one pipeline."""

    def __init__(self, pipeline: Pipeline, weights: Weights) -> None:
        policy = pipeline.policy
        self._pipeline = pipeline.name
        self._events = Topology.of(pipeline).events
        self._weights = weights
        self._policy = f"{pipeline.name}@{policy.version}"
        self._decisions = [policy.otherwise, *policy.thresholds]
        self._fallback = pipeline.weighting.fallback
        self._thresholds = np.array(list(policy.thresholds.values()))
        self._fixed_headers: Headers = [
            ("content-type", b"application/json"),
            ("ce_specversion", b"1.0"),
            ("ce_type", b"anabranch.decision"),
            ("ce_source", f"anabranch/{pipeline.name}".encode()),
        ]

    def records(
        self,
        partition: int,
        joined: JoinedRows,
        rows: Ints,
        weighed: Weighed,
        now_ms: int,
        *,
        attempt: int = 1,
        fallback: Bools | None = None,
    ) -> Iterator[Record]:
        """The decision records of *rows*, in order; a later *attempt* is named in a header.

        Rows that are *fallback* (N,) get the pipeline file's decision for what is late.
        """
        keys, ids = joined.rows.keys.items(), joined.rows.ids.items()
        traces = joined.rows.traces.items() if joined.rows.traces is not None else None
        offsets, times = joined.rows.offsets.tolist(), rfc3339_all(joined.rows.event_time_ms)
        latencies = np.maximum(now_ms - joined.rows.published_ms, 0).tolist()
        scores = weighed.scores.tolist()
        reached = np.searchsorted(self._thresholds, weighed.scores, "right").tolist()
        stages = _StageColumns(joined, weighed)
        decided_at = rfc3339(now_ms)
        fixed_headers = [("ce_time", decided_at.encode()), *self._fixed_headers]
        if attempt > 1:
            fixed_headers.append((ATTEMPT, b"%d" % attempt))
        late = np.zeros(len(offsets), np.bool_) if fallback is None else fallback
        for row in rows.tolist():
            contributions, missing = stages.row(row)
            is_late = bool(late[row])
            source = {"topic": self._events, "partition": partition, "offset": offsets[row]}
            value = orjson.dumps({
                "schema": SCHEMA,
                "event_id": ids[row].decode(errors="replace"),
                "pipeline": self._pipeline,
                "decision": self._fallback if is_late else self._decisions[reached[row]],
                "decided_by": "late" if is_late else "score",
                "score": None if is_late else scores[row],
                "contributions": {} if is_late else contributions,
                "degraded": bool(missing),
                "missing": [*missing],
                "missing_because": missing,
                "weights": self._weights.version,
                "policy": self._policy,
                "source": source,
                "event_time": times[row],
                "decided_at": decided_at,
                "latency_ms": latencies[row],
            })  # fmt: skip
            ce_id = source_id(self._events, partition, offsets[row]).encode()
            headers = [("ce_id", ce_id), *fixed_headers]
            if traces is not None and traces[row]:
                headers.append(("traceparent", traces[row]))
            yield Record(keys[row], value, now_ms, headers)


class _StageColumns:
    """Contributions by row: arrays turned into lists once, read many times."""

    def __init__(self, joined: JoinedRows, weighed: Weighed) -> None:
        self._stages = [
            (
                name,
                stage.present.tolist(),
                stage.signal.astype(np.float64).tolist(),
                weighed.weights[:, column].tolist(),
                weighed.contributions[:, column].tolist(),
                [run.start for run in stage.models],
                [run.model._asdict() for run in stage.models],
                stage.delivered.tolist(),
                stage.unanswered,
            )
            for column, (name, stage) in enumerate(joined.stages.items())
        ]

    def row(self, row: int) -> tuple[dict[str, Any], dict[str, str]]:
        """The contributions of a row by stage, and the stages that are missing, each with why."""
        contributions: dict[str, Any] = {}
        missing: dict[str, str] = {}
        for name, present, signals, weights, shares, starts, models, answered, why in self._stages:
            if not present[row]:
                missing[name] = "failed" if answered[row] else why
                continue
            model = models[0] if len(models) == 1 else models[bisect_right(starts, row) - 1]
            contributions[name] = {
                "signal": signals[row],
                "weight": weights[row],
                "contribution": shares[row],
                **model,
            }
        return contributions, missing
