"""The decision record of workload w1: signals weighed as pipeline.json says."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tests.benchmarks.peers.card_fraud import STAGES


class Origin(NamedTuple):
    """What a decision says of its event."""

    event_id: str
    partition: int
    offset: int
    event_time: str
    timestamp_ms: int
    """Of the event's record."""


@lru_cache(maxsize=16)
def rfc3339(milliseconds: int) -> str:
    """Milliseconds since 1970 as a time in UTC: 2018-04-01T00:00:31.000Z.

    Cached, as many decisions are made in one millisecond.
    """
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


class Decisions:
    """Makes decision records of the events in one topic."""

    def __init__(self, models: Path, events_topic: str) -> None:
        policy = orjson.loads((models / "pipeline.json").read_bytes())
        thresholds = sorted((least, name) for name, least in policy["thresholds"].items())
        self._least = [least for least, _ in thresholds]
        self._names = [policy["otherwise"], *(name for _, name in thresholds)]
        self._weighed = [(name, policy["weights"][name], policy["models"][name]) for name in STAGES]
        self._policy = policy
        self._topic = events_topic

    def record(self, origin: Origin, signals: Sequence[float], now_ms: int) -> bytes:
        """The decision about an event with *signals* in the order of STAGES, as JSON."""
        contributions: dict[str, dict[str, Any]] = {}
        score = 0.0
        for (name, weight, model), signal in zip(self._weighed, signals, strict=True):
            share = weight * signal
            score += share
            contributions[name] = {"signal": signal, "weight": weight, "contribution": share}
            contributions[name].update(model)
        source = {"topic": self._topic, "partition": origin.partition, "offset": origin.offset}
        return orjson.dumps({
            "event_id": origin.event_id,
            "pipeline": self._policy["pipeline"],
            "decision": self._names[bisect_right(self._least, score)],
            "score": score,
            "contributions": contributions,
            "degraded": False,
            "missing": [],
            "weights": self._policy["weights_version"],
            "policy": self._policy["policy"],
            "source": source,
            "event_time": origin.event_time,
            "decided_at": rfc3339(now_ms),
            "latency_ms": max(now_ms - origin.timestamp_ms, 0),
        })  # fmt: skip
