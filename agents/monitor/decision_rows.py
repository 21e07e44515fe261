"""Decisions as rows of a database table, and rows as decisions."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from agents.monitor.decision_batch import DecisionBatch
from models.arrays import Floats64, Ints

TABLE = """
CREATE TABLE decision (
    id TEXT, key TEXT, record_key TEXT, partition INTEGER, offset INTEGER, log_offset INTEGER,
    event_ms INTEGER, decided_ms INTEGER, score REAL, signals BLOB, alphas BLOB, decided INTEGER,
    models INTEGER, weights INTEGER, policy INTEGER, explored INTEGER, propensity REAL,
    PRIMARY KEY (id, key)
) WITHOUT ROWID;
CREATE INDEX decision_time ON decision (event_ms);
"""
COLUMNS = (
    "id, key, record_key, partition, offset, log_offset, event_ms, decided_ms, score, signals, "
    "alphas, decided, models, weights, policy, explored, propensity"
)

EventName = tuple[str, str]
"""An event's id, and its key where that counts."""


class DecisionRows:
    """Makes rows of decisions; words that many of them share are kept once, in memory."""

    def __init__(self, stages: Sequence[str]) -> None:
        self._stages = stages
        self._words: list[Any] = []
        self._places: dict[Hashable, int] = {}

    def rows(self, batch: DecisionBatch, names: Sequence[EventName]) -> Iterator[tuple[Any, ...]]:
        """A row by COLUMNS for each decision, whose events are called *names*."""
        columns = (
            batch.keys, batch.partitions.tolist(), batch.offsets.tolist(),
            batch.log_offsets.tolist(), batch.event_ms.tolist(), batch.decided_ms.tolist(),
            [None if np.isnan(score) else score for score in batch.scores.tolist()],
            [row.tobytes() for row in batch.signals], [row.tobytes() for row in batch.alphas],
            map(self._place, batch.decided), map(self._place, batch.models),
            batch.weights.tolist(), map(self._place, batch.policies), batch.explored.tolist(),
            batch.propensity.tolist(),
        )  # fmt: skip
        return (
            (*name, *values) for name, values in zip(names, zip(*columns, strict=True), strict=True)
        )

    def batch(self, rows: Sequence[tuple[Any, ...]]) -> DecisionBatch:
        """The decisions of *rows*, by COLUMNS."""
        columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS.split(", "))
        (
            ids, _, keys, partitions, offsets, log_offsets, event_ms, decided_ms, scores, signals,
            alphas, decided, models, weights, policies, explored, propensity,
        ) = columns  # fmt: skip
        return DecisionBatch(
            stages=self._stages, partitions=_ints(partitions), offsets=_ints(offsets),
            log_offsets=_ints(log_offsets), ids=list(ids), keys=list(keys),
            event_ms=_ints(event_ms), decided_ms=_ints(decided_ms),
            scores=np.array(scores, np.float64), signals=self._matrix(signals),
            alphas=self._matrix(alphas),
            failed=np.zeros((len(rows), len(self._stages)), np.bool_),
            decided=[self._words[at] for at in decided],
            models=[self._words[at] for at in models], weights=_ints(weights),
            policies=[self._words[at] for at in policies],
            explored=np.array(explored, np.bool_), propensity=np.array(propensity, np.float64),
        )  # fmt: skip

    def _place(self, word: Hashable) -> int:
        place = self._places.setdefault(word, len(self._words))
        if place == len(self._words):
            self._words.append(word)
        return place

    def _matrix(self, rows: Sequence[bytes]) -> Floats64:
        return np.frombuffer(b"".join(rows), np.float64).reshape(len(rows), len(self._stages))


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, np.int64)
