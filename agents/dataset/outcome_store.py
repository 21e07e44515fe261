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
    """What came true of N events; all else means nothing where that is not known."""

    known: Bools
    """(N,)"""
    positive: Bools
    """(N,)"""
    published_ms: Ints
    """When the outcome was published (N,)."""
    known_ms: Ints
    """Since when it is known, by who says so (N,)."""
    sources: NDArray[Any]
    """Who says so (N,); empty for nobody."""

    def of_known(self) -> KnownOutcomes:
        """Those of the events whose outcome is known."""
        known = self.known
        return KnownOutcomes(
            known[known], self.positive[known], self.published_ms[known], self.known_ms[known],
            self.sources[known],
        )  # fmt: skip


class OutcomeStore:
    """Of each event the outcome that counts: that of the highest `topics.records.OutcomeRank`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute(
            "CREATE TABLE outcome (id TEXT, key TEXT, positive INTEGER, strength INTEGER, "
            "known_ms INTEGER, partition INTEGER, place INTEGER, published_ms INTEGER, "
            "source TEXT, PRIMARY KEY (id, key)) WITHOUT ROWID"
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

    def add(self, outcomes: DecodedOutcomes) -> None:
        """Take in outcomes, in any order; of several about one event one counts."""
        self._database.executemany(
            "INSERT INTO outcome VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id, key) DO UPDATE SET positive = excluded.positive, "
            "strength = excluded.strength, known_ms = excluded.known_ms, "
            "partition = excluded.partition, place = excluded.place, "
            "published_ms = excluded.published_ms, source = excluded.source "
            "WHERE (excluded.strength, excluded.known_ms, excluded.partition, excluded.place) "
            "> (strength, known_ms, partition, place)",
            (
                (event_id, key, positive, *rank, published_ms, source)
                for event_id, key, positive, rank, published_ms, source in zip(
                    outcomes.ids, outcomes.keys, outcomes.positive.tolist(), outcomes.ranks(),
                    outcomes.published_ms.tolist(), outcomes.sources, strict=True,
                )
            ),
        )  # fmt: skip

    def of(self, events: EventNames) -> KnownOutcomes:
        """What came true of N events."""
        n = len(events.ids)
        found = KnownOutcomes(
            np.zeros(n, np.bool_), np.zeros(n, np.bool_), np.zeros(n, np.int64),
            np.zeros(n, np.int64), np.full(n, "", object),
        )  # fmt: skip
        self._database.execute("DELETE FROM asked")
        self._database.executemany(
            "INSERT INTO asked VALUES (?, ?, ?)",
            ((row, *names) for row, names in enumerate(events.texts())),
        )
        for row, positive, published_ms, known_ms, source in self._database.execute(
            "SELECT row, positive, published_ms, known_ms, source "
            "FROM asked JOIN outcome USING (id, key)"
        ):
            found.known[row], found.positive[row] = True, bool(positive)
            found.published_ms[row], found.known_ms[row] = published_ms, known_ms
            found.sources[row] = source
        return found
