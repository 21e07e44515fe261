"""Decisions that wait for outcomes, and outcomes that wait for decisions, on disk.

Both come in any order and however late, and are matched by the event's id and key (by its id alone
where the pipeline file has `keys: rekey`, as record keys are not trusted then). Of several outcomes
of an event that of the highest `OutcomeRank` counts: later ones replace it, or are superseded, and
what is known of a decision is known once.

What is kept is a function of the topics and of two event times, the floors: of a decision whose
event is older than the first nothing is kept, and an outcome of an event older than the second that
has no decision is dead. Floors only rise: with the clock, or where there are more rows than the
bound. So the store itself is not saved: who starts anew reads the topics again from `firsts` on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from agents.monitor.decision_batch import DecisionBatch, MatchedOutcomes
from agents.monitor.decision_rows import COLUMNS, TABLE, DecisionRows, EventName
from models.arrays import Bools, Ints
from topics.events import DecodedOutcomes
from topics.pipeline import Pipeline, outcomes_kept_ms
from topics.records import NO_DECISION, NO_ROOM, OutcomeRank

_CACHE_KIB = 64 * 1024
_NEVER_MS = -(2**62)
_OTHER_TABLES = """
CREATE TABLE outcome (
    id TEXT, key TEXT, positive INTEGER, source TEXT, strength INTEGER, known_ms INTEGER,
    partition INTEGER, offset INTEGER, event_ms INTEGER, published_ms INTEGER, matched INTEGER,
    record_key BLOB, value BLOB, PRIMARY KEY (id, key)
) WITHOUT ROWID;
CREATE INDEX outcome_time ON outcome (matched, event_ms);
CREATE TABLE event_values (
    partition INTEGER, offset INTEGER, event_ms INTEGER, content TEXT,
    PRIMARY KEY (partition, offset)
) WITHOUT ROWID;
CREATE INDEX event_values_time ON event_values (event_ms);
CREATE TEMP TABLE asked (row INTEGER PRIMARY KEY, id TEXT, key TEXT);
"""


class DeadOutcome(NamedTuple):
    """An outcome that no decision was found for, and its record."""

    error: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    published_ms: int
    event_ms: int


@dataclass(slots=True)
class StoreCounts:
    """What has become of decisions and outcomes that were taken in."""

    kept: int = 0
    """Decisions that wait for outcomes, or have waited."""
    repeated: int = 0
    """Decisions about an event that has one already (it was published twice): the first counts."""
    late: int = 0
    """Decisions about events that are too old to wait for outcomes."""
    evicted: int = 0
    """Decisions that had to go before their time, as there were more than the bound."""
    matched: int = 0
    """Outcomes that were the first about their decision."""
    replaced: int = 0
    """Outcomes that took the place of an earlier one with the same label."""
    reversed: int = 0
    """Outcomes that did so with another label."""
    superseded: int = 0
    """Outcomes that were weaker or older than what was known, or the same again."""


@dataclass(frozen=True, slots=True)
class LabelledDecisions:
    """N decisions, what is known of them, and values of their events."""

    decisions: DecisionBatch
    known: Bools
    """(N,)"""
    positive: Bools
    """(N,); means nothing where it is not known."""
    values: Sequence[str | None]
    """What `add_values` was given of their events (N)."""

    def __len__(self) -> int:
        return len(self.known)


class Floors(NamedTuple):
    """Event times before which nothing is kept, in milliseconds."""

    decisions_ms: int = _NEVER_MS
    outcomes_ms: int = _NEVER_MS
    """For outcomes without a decision; never below the other."""


class _Outcome(NamedTuple):
    rank: OutcomeRank
    positive: bool
    source: str
    event_ms: int
    published_ms: int
    record: Any


class DecisionStore:
    """Keeps decisions for so long after their events, and so many of them at most."""

    def __init__(self, database: sqlite3.Connection, pipeline: Pipeline) -> None:
        self._database = database
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.executescript(TABLE + _OTHER_TABLES)
        self._codec = DecisionRows(pipeline.weighting.inputs)
        self._by_key = pipeline.event.keys != "rekey"
        self._kept_ms, self._most = outcomes_kept_ms(pipeline), pipeline.outcomes.most_awaiting
        self.clock_ms = -1
        """The newest event time of decisions so far; -1 before the first."""
        self.floors = Floors()
        self.awaiting = 0
        """Decisions that are kept."""
        self.unmatched = 0
        """Outcomes that wait for their decision."""
        self.counts = StoreCounts()

    @classmethod
    @contextmanager
    def in_folder(cls, folder: Path, pipeline: Pipeline) -> Iterator[DecisionStore]:
        """A store whose file is in *folder* while it is used. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".monitor-", dir=folder) as own:
            path = Path(own, "decisions.db")
            with closing(sqlite3.connect(path, check_same_thread=False)) as database:
                yield cls(database, pipeline)

    @property
    def size_bytes(self) -> int:
        """What it takes of disk and memory."""
        (pages,) = self._database.execute("PRAGMA page_count").fetchone()
        (size,) = self._database.execute("PRAGMA page_size").fetchone()
        return int(pages) * int(size)

    def add_decisions(self, batch: DecisionBatch) -> MatchedOutcomes | None:
        """Take in decisions; what was waiting for them, if anything."""
        self.clock_ms = max(self.clock_ms, int(batch.event_ms.max(initial=-1)))
        names = self._names(batch.ids, batch.keys)
        there = {row for (row,) in self._about(names, "row", "decision")}
        firsts: dict[EventName, int] = {}
        for row, (name, event_ms) in enumerate(zip(names, batch.event_ms.tolist(), strict=True)):
            if row in there or firsts.setdefault(name, row) != row:
                self.counts.repeated += 1
            elif event_ms < self.floors.decisions_ms:
                del firsts[name]
                self.counts.late += 1
        new, places = list(firsts), np.array([*firsts.values()], np.int64)
        places_of = f"({', '.join('?' * len(COLUMNS.split(', ')))})"
        self._database.executemany(
            f"INSERT INTO decision ({COLUMNS}) VALUES {places_of}",  # noqa: S608  # our own words
            self._codec.rows(batch.take(places), new),
        )
        self.counts.kept += len(new)
        self.awaiting += len(new)
        waiting = self._about(new, "row, positive, source, known_ms", "outcome")
        if not waiting:
            return None
        rows, positive, sources, known_ms = zip(*waiting, strict=True)
        self._database.executemany(
            "UPDATE outcome SET matched = 1, record_key = NULL, value = NULL "
            "WHERE id = ? AND key = ?",
            [new[row] for row in rows],
        )
        self.counts.matched += len(rows)
        self.unmatched -= len(rows)
        return MatchedOutcomes(
            batch.take(places[list(rows)]), np.array(positive, np.bool_),
            np.full(len(rows), -1, np.int64), sources, np.array(known_ms, np.int64),
        )  # fmt: skip

    def add_outcomes(
        self, decoded: DecodedOutcomes, records: Sequence[Any]
    ) -> MatchedOutcomes | None:
        """Take in outcomes, decoded of *records*; those that say something new of a decision."""
        newest: dict[EventName, _Outcome] = {}
        for name, outcome in zip(
            self._names(decoded.ids, decoded.keys), _outcomes(decoded, records), strict=True
        ):
            known = newest.get(name)
            self.counts.superseded += known is not None
            if known is None or outcome.rank > known.rank:
                newest[name] = outcome
        before: dict[EventName, bool] = {}
        names = list(newest)
        rank = "strength, known_ms, partition, offset"
        for row, positive, *known_rank in self._about(names, f"row, positive, {rank}", "outcome"):
            name = names[row]
            if OutcomeRank(*known_rank) >= newest[name].rank:
                self.counts.superseded += 1
                del newest[name]
            else:
                before[name] = bool(positive)
        return self._replace(newest, before)

    def _replace(
        self, newest: Mapping[EventName, _Outcome], before: Mapping[EventName, bool]
    ) -> MatchedOutcomes | None:
        """Make these outcomes what is known of their events; *before*, of some, another was."""
        names = list(newest)
        decided = {names[row] for (row,) in self._about(names, "row", "decision")}
        self._database.executemany(
            "INSERT OR REPLACE INTO outcome VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (_row(name, outcome, is_matched=name in decided) for name, outcome in newest.items()),
        )
        changed: list[EventName] = []
        for name, outcome in newest.items():
            if name not in before:
                self.counts.matched += name in decided
                self.unmatched += name not in decided
            elif before[name] != outcome.positive:
                self.counts.reversed += 1
            else:
                self.counts.replaced += 1
            if name in decided and before.get(name) != outcome.positive:
                changed.append(name)
        if not changed:
            return None
        rows = sorted(self._about(changed, f"row, {COLUMNS}", "decision"))
        found = [newest[name] for name in changed]
        return MatchedOutcomes(
            self._codec.batch([row[1:] for row in rows]),
            np.array([each.positive for each in found], np.bool_),
            np.array([before.get(name, -1) for name in changed], np.int64),
            [each.source for each in found],
            np.array([each.rank.known_ms for each in found], np.int64),
        )  # fmt: skip

    def add_values(
        self, partition: int, offsets: Ints, event_ms: Ints, contents: Sequence[str]
    ) -> None:
        """Keep something about N events, by their coordinates, as long as decisions are kept."""
        is_kept = event_ms >= self.floors.decisions_ms
        rows = zip(offsets.tolist(), event_ms.tolist(), contents, is_kept.tolist(), strict=True)
        self._database.executemany(
            "INSERT OR IGNORE INTO event_values VALUES (?, ?, ?, ?)",
            ((partition, offset, at, content) for offset, at, content, kept in rows if kept),
        )

    def between(self, start_ms: int, end_ms: int) -> LabelledDecisions:
        """The decisions about events in [start, end) of event time, with what is known of them."""
        columns = ", ".join(f"decision.{name}" for name in COLUMNS.split(", "))
        rows = self._database.execute(
            f"SELECT {columns}, outcome.positive, content FROM decision "  # noqa: S608  # our own words
            "LEFT JOIN outcome USING (id, key) "
            "LEFT JOIN event_values ON event_values.partition = decision.partition "
            "AND event_values.offset = decision.offset "
            "WHERE decision.event_ms >= ? AND decision.event_ms < ? "
            "ORDER BY decision.partition, decision.offset",
            (start_ms, end_ms),
        ).fetchall()
        said = [row[-2] for row in rows]
        return LabelledDecisions(
            self._codec.batch([row[:-2] for row in rows]),
            np.array([each is not None for each in said], np.bool_),
            np.array([bool(each) for each in said], np.bool_),
            [row[-1] for row in rows],
        )

    def forget(self) -> list[DeadOutcome]:
        """Raise the floors to where they belong now; outcomes that are dead by that."""
        aged = max(self.floors.decisions_ms, self.clock_ms - self._kept_ms)
        dead = self._dead(NO_DECISION, aged)
        self._delete_decisions(aged)
        floor = max(aged, self._time_of_excess("1 = 1", "decision", self.awaiting))
        self.counts.evicted += self._delete_decisions(floor)
        waiting = max(
            floor, self.floors.outcomes_ms,
            self._time_of_excess("matched = 0", "outcome", self.unmatched),
        )  # fmt: skip
        dead += self._dead(NO_ROOM, waiting)
        self._database.execute("DELETE FROM outcome WHERE matched = 1 AND event_ms < ?", (floor,))
        self._database.execute("DELETE FROM event_values WHERE event_ms < ?", (floor,))
        self.floors = Floors(floor, waiting)
        return dead

    def _delete_decisions(self, floor_ms: int) -> int:
        cursor = self._database.execute("DELETE FROM decision WHERE event_ms < ?", (floor_ms,))
        self.awaiting -= cursor.rowcount
        return cursor.rowcount

    def _dead(self, error: str, floor_ms: int) -> list[DeadOutcome]:
        rows = self._database.execute(
            "DELETE FROM outcome WHERE matched = 0 AND event_ms < ? "
            "RETURNING partition, offset, record_key, value, published_ms, event_ms",
            (floor_ms,),
        ).fetchall()
        self.unmatched -= len(rows)
        return [DeadOutcome(error, *row) for row in sorted(rows, key=lambda row: row[:2])]

    def _time_of_excess(self, where: str, table: str, count: int) -> int:
        """The event time before which rows have to go, so that no more are left than the bound."""
        if count <= self._most:
            return _NEVER_MS
        (event_ms,) = self._database.execute(
            f"SELECT event_ms FROM {table} WHERE {where} ORDER BY event_ms LIMIT 1 OFFSET ?",  # noqa: S608  # our own words
            (count - self._most,),
        ).fetchone()
        return int(event_ms) + 1

    def firsts(self) -> dict[str, dict[int, int]]:
        """Of decisions, outcomes and events, partition → the offset of the first that is kept."""
        asked = {
            "decisions": "SELECT partition, MIN(log_offset) FROM decision GROUP BY partition",
            "outcomes": "SELECT partition, MIN(offset) FROM outcome GROUP BY partition",
            "events": "SELECT partition, MIN(offset) FROM event_values GROUP BY partition",
        }
        return {name: dict(self._database.execute(query)) for name, query in asked.items()}

    def _names(self, ids: Sequence[str], keys: Sequence[str]) -> list[EventName]:
        if self._by_key:
            return list(zip(ids, keys, strict=True))
        return [(event_id, "") for event_id in ids]

    def _about(self, names: Sequence[EventName], columns: str, table: str) -> list[Any]:
        """Columns of the rows of *table* about events, and `row`, each event's place in *names*."""
        self._database.execute("DELETE FROM asked")
        self._database.executemany(
            "INSERT INTO asked VALUES (?, ?, ?)",
            ((row, *name) for row, name in enumerate(names)),
        )
        query = f"SELECT {columns} FROM asked JOIN {table} USING (id, key) ORDER BY row"  # noqa: S608  # our own words
        return self._database.execute(query).fetchall()


def _outcomes(decoded: DecodedOutcomes, records: Sequence[Any]) -> Iterator[_Outcome]:
    columns = (
        decoded.ranks(), decoded.positive.tolist(), decoded.sources, decoded.event_ms.tolist(),
        decoded.published_ms.tolist(), (records[row] for row in decoded.valid.tolist()),
    )  # fmt: skip
    return (_Outcome(*values) for values in zip(*columns, strict=True))


def _row(name: EventName, outcome: _Outcome, *, is_matched: bool) -> tuple[Any, ...]:
    """A row of the table of outcomes; one that waits is kept as its record was."""
    strength, known_ms, partition, offset = outcome.rank
    original = (None, None) if is_matched else (outcome.record.key, outcome.record.value)
    return (
        *name, outcome.positive, outcome.source, strength, known_ms, partition, offset,
        outcome.event_ms, outcome.published_ms, is_matched, *original,
    )  # fmt: skip
