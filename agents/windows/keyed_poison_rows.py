"""Rows at which the workers of a keyed stage end: found and passed over.

`agents.workers.poison_rows` does it for all other workers.

Rows of a lane come from several source partitions, and several lanes answer on one topic: what was
tried last is not found on its end. So a worker says on the topic of its snapshots, whose partitions
are the lanes', which rows it is about to run on, one record by its name; and deletes it when their
answers are written. What is still there when the next one comes was said by workers that ended.
What others said is deleted when the rows are committed: until then they may be run on again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, NamedTuple

import numpy as np
from aiokafka.structs import ConsumerRecord
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.windows.event_time_order import Released
from agents.workers import ENDINGS_AT_ROW, ENDINGS_AT_ROWS, WORKER, TailReader
from topics.kafka import Record

HEADER = "anabranch-tried"

_Offset = Annotated[int, Field(ge=0, le=2**62)]


class Tried(BaseModel):
    """Rows that a worker was about to run on."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer worker may say more

    rows: Annotated[dict[_Offset, tuple[_Offset, _Offset]], Field(min_length=1, max_length=100_000)]
    """Source partition → the first and the last source offset."""
    behind: _Offset
    """The keyed topic's offset behind the last record that has some of them."""

    @property
    def is_one_row(self) -> bool:
        """Whatever ended the worker, it was at this row."""
        return len(self.rows) == 1 and all(first == last for first, last in self.rows.values())


class Portion(NamedTuple):
    """Rows that are to be run on together."""

    released: list[Released]
    passed_over: str = ""
    """Why they are absent without being run on; empty when they are to be run on."""
    alone: bool = False
    """It is one row, because earlier workers have ended at it or close to it."""

    def tried(self, written_before: int) -> Tried | None:
        """What is said of them; None when all of them have their answers already."""
        rows: dict[int, tuple[int, int]] = {}
        behind = 0
        for part in self.released:
            if part.position < written_before or not len(part.batch):
                continue
            offsets, source = part.batch.rows.offsets, part.batch.partition
            first, _ = rows.get(source, (int(offsets[0]), 0))
            rows[source] = (first, int(offsets[-1]))
            behind = max(behind, part.position + 1)
        return Tried(rows=rows, behind=behind) if rows else None


class KeyedTrial:
    """The first rows of a lane after it was opened."""

    def __init__(self, tried: Mapping[str, Tried] | None = None) -> None:
        """*tried* is what earlier workers have said last, by worker."""
        self.others = {name: it for name, it in (tried or {}).items() if name != WORKER}
        ends = self.others.values()
        careful = len(ends) >= ENDINGS_AT_ROWS or any(it.is_one_row for it in ends)
        self._careful_to: dict[int, int] = {}
        for it in ends if careful else ():
            for source, (_, last) in it.rows.items():
                self._careful_to[source] = max(last, self._careful_to.get(source, -1))
        self.behind = max((it.behind for it in ends), default=0)
        """Once so much of the keyed topic is committed, nobody runs on those rows again."""
        self.said = False
        """This worker has said what it tries, and has not taken that back."""
        self.answered = False
        """The first rows have been run on, and are written."""

    @classmethod
    async def of(cls, tail: TailReader, topic: str, lane: int) -> KeyedTrial:
        """The trial by what stands at the end of the topic of snapshots."""
        newest: list[ConsumerRecord] = []
        async for start, end in tail.backwards(topic, lane):
            records = await tail.between(topic, lane, start, end)
            newest = [*records, *newest]
            if not all(HEADER in dict(record.headers) for record in records):
                break  # workers that end again and again write nothing else
        return cls(tried_by(newest))

    def portions(self, released: Sequence[Released]) -> Iterator[Portion]:
        """How these rows are to be run on, in their turn."""
        turn = _rows_in_turn(released)
        careful = [
            at for at, (part, row) in enumerate(turn)
            if int(released[part].batch.rows.offsets[row])
            <= self._careful_to.get(released[part].batch.partition, -1)
        ]  # fmt: skip
        single = turn[: careful[-1] + 1] if careful else []
        left: list[Released | None] = [*released]
        for part, row in single:
            it, source = released[part], released[part].batch.partition
            # What has no rows, and only says how far its source has come, stays in its order.
            before = [at for at, it in enumerate(released[:part])
                      if left[at] is not None and it.batch.partition == source]  # fmt: skip
            yield Portion(
                [*(released[at] for at in before), _slice(it, row, row + 1)],
                self._why_absent(source, int(it.batch.rows.offsets[row])),
                alone=True,
            )
            for at in before:
                left[at] = None
            whole = row + 1 == len(it.batch)
            left[part] = None if whole else _slice(it, row + 1, len(it.batch))
        rest = [it for it in left if it is not None]
        if rest:
            yield Portion(rest)

    def _why_absent(self, source: int, offset: int) -> str:
        row = {source: (offset, offset)}
        ended = sum(it.rows == row for it in self.others.values())
        return (
            f"{ended} workers ended while they ran on this row alone"
            if ended >= ENDINGS_AT_ROW
            else ""
        )


def tried_record(tried: Tried | None, now_ms: int, worker: str = WORKER) -> Record:
    """What *worker* is about to run on, as a record; None takes it back."""
    value = None if tried is None else tried.model_dump_json().encode()
    return Record(f"tried/{worker}".encode(), value, now_ms, [(HEADER, b"1")])


def tried_by(records: Iterable[ConsumerRecord]) -> dict[str, Tried]:
    """What each worker has said last and not taken back; other records are none of it."""
    found: dict[str, Tried] = {}
    for record in records:
        if HEADER not in dict(record.headers):
            continue
        worker = (record.key or b"").decode(errors="replace").partition("/")[2]
        found.pop(worker, None)
        if record.value is not None:
            with suppress(ValidationError):
                found[worker] = Tried.model_validate_json(record.value)
    return found


def _rows_in_turn(released: Sequence[Released]) -> list[tuple[int, int]]:
    """All rows, as the place of their part and in it, in the order in which windows take them in.

    It is that of `agents.windows.key_partition.Shard.observe`.
    """
    parts = np.concatenate([np.full(len(it.batch), at) for at, it in enumerate(released)])
    rows = np.concatenate([np.arange(len(it.batch)) for it in released])
    sources = np.concatenate([np.full(len(it.batch), it.batch.partition) for it in released])
    offsets = np.concatenate([it.batch.rows.offsets for it in released])
    clocks = np.concatenate([it.clocks_ms for it in released])
    turn = np.lexsort((offsets, sources, clocks))
    return list(zip(parts[turn].tolist(), rows[turn].tolist(), strict=True))


def _slice(released: Released, start: int, stop: int) -> Released:
    """Some of the rows; a whole part stays what it is."""
    n = len(released.batch)
    if (start, stop) == (0, n):
        return released
    early = max(0, stop - max(start, n - released.early))
    return replace(
        released, batch=released.batch[start:stop], clocks_ms=released.clocks_ms[start:stop],
        early=early,
    )  # fmt: skip
