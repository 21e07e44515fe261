"""Outcomes by event, on disk: there may be more of them than memory holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import Bools, Ints
from topics.events import DecodedOutcomes

_CACHE_KIB = 64 * 1024


class EventNames(NamedTuple):
    """Id and partition key of N events: an outcome repeats both of its event's."""

    ids: NDArray[Any]
    keys: NDArray[Any]

    def texts(self) -> Iterator[tuple[str, str]]:
        """Both as text, event by event."""
        return (
            (str(name), str(key))
            for name, key in zip(self.ids.tolist(), self.keys.tolist(), strict=True)
        )


class KnownOutcomes(NamedTuple):
    """What came true of N events."""

    known: Bools
    """(N,)"""
    positive: Bools
    """(N,); means nothing where it is not known."""
    published_ms: Ints
    """When the outcome was published (N,); means nothing where it is not known."""

    def of_known(self) -> KnownOutcomes:
        """Those of the events whose outcome is known."""
        known = self.known
        return KnownOutcomes(known[known], self.positive[known], self.published_ms[known])


class OutcomeStore:
    """The outcome about each event that counts, by `topics.records.OutcomeRank`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute(
            "CREATE TABLE outcome (id TEXT, key TEXT, positive INTEGER, published_ms INTEGER, "
            "strength INTEGER, known_ms INTEGER, partition INTEGER, offset INTEGER, "
            "PRIMARY KEY (id, key)) WITHOUT ROWID"
        )
        database.execute("CREATE TEMP TABLE asked (row INTEGER PRIMARY KEY, id TEXT, key TEXT)")

    @classmethod
    @contextmanager
    def in_folder(cls, folder: Path) -> Iterator[OutcomeStore]:
        """A store whose file is in *folder* while it is used. Raises OSError."""
        with TemporaryDirectory(prefix=".outcomes-", dir=folder) as own:
            path = Path(own, "outcomes.db")
            with closing(sqlite3.connect(path, check_same_thread=False)) as database:
                yield cls(database)

    def add(self, decoded: DecodedOutcomes) -> None:
        """Take in outcomes; each replaces one of a lower rank, whichever comes first."""
        columns = (decoded.ids, decoded.keys, decoded.positive.tolist(),
                   decoded.published_ms.tolist(), decoded.ranks())  # fmt: skip
        self._database.executemany(
            "INSERT INTO outcome VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "positive = excluded.positive, published_ms = excluded.published_ms, "
            "strength = excluded.strength, known_ms = excluded.known_ms, "
            "partition = excluded.partition, offset = excluded.offset "
            "WHERE (excluded.strength, excluded.known_ms, excluded.partition, excluded.offset) > "
            "(strength, known_ms, partition, offset)",
            ((*values, *rank) for *values, rank in zip(*columns, strict=True)),
        )

    def of(self, events: EventNames) -> KnownOutcomes:
        """What came true of N events."""
        n = len(events.ids)
        found = KnownOutcomes(np.zeros(n, np.bool_), np.zeros(n, np.bool_), np.zeros(n, np.int64))
        self._database.execute("DELETE FROM asked")
        self._database.executemany(
            "INSERT INTO asked VALUES (?, ?, ?)",
            ((row, *names) for row, names in enumerate(events.texts())),
        )
        for row, positive, published_ms in self._database.execute(
            "SELECT row, positive, published_ms FROM asked JOIN outcome USING (id, key)"
        ):
            found.known[row], found.positive[row] = True, bool(positive)
            found.published_ms[row] = published_ms
        return found
