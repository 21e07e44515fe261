"""Rows at which the workers of a keyed stage end: found and passed over.

`agents.recovery.poison_rows` does it for all other workers.

Rows of a lane come from several source partitions, and several lanes answer on one topic: what was
tried last is not found on its end. So a worker says on the topic of its snapshots, whose partitions
are the lanes', which rows it is about to run on, one record by its name; and deletes it when their
answers are written. What is still there when the next one comes was said by workers that ended.
What others said is deleted when the rows are committed: until then they may be run on again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, NamedTuple

import numpy as np
from aiokafka.structs import ConsumerRecord
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.recovery.poison_rows import ENDINGS_AT_ROW, ENDINGS_AT_ROWS
from agents.windows import DueRows
from agents.workers import WORKER_RUN, StageApp, StagePulse, TailReader, all_done
from topics.kafka import Record

HEADER = "anabranch-tried"

_Offset = Annotated[int, Field(ge=0, le=2**62)]


class RunAttempt(BaseModel):
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

    due: list[DueRows]
    passed_over: str = ""
    """Why they are absent without being run on; empty when they are to be run on."""
    alone: bool = False
    """It is one row, because earlier workers have ended at it or close to it."""

    def attempt(self, written_before: int) -> RunAttempt | None:
        """What is said of them; None when all of them have their answers already."""
        rows: dict[int, tuple[int, int]] = {}
        behind = 0
        for part in self.due:
            if part.position < written_before or not len(part.batch):
                continue
            offsets, source = part.batch.rows.offsets, part.batch.partition
            first, _ = rows.get(source, (int(offsets[0]), 0))
            rows[source] = (first, int(offsets[-1]))
            behind = max(behind, part.position + 1)
        return RunAttempt(rows=rows, behind=behind) if rows else None


class KeyedPoisonRows:
    """Finds poison rows among the first rows of a lane after it was opened."""

    def __init__(self, attempts: Mapping[str, RunAttempt] | None = None) -> None:
        """*attempts* are what earlier workers have said last, by worker."""
        self.others = {name: each for name, each in (attempts or {}).items() if name != WORKER_RUN}
        ends = self.others.values()
        careful = len(ends) >= ENDINGS_AT_ROWS or any(end.is_one_row for end in ends)
        self._careful_to: dict[int, int] = {}
        for end in ends if careful else ():
            for source, (_, last) in end.rows.items():
                self._careful_to[source] = max(last, self._careful_to.get(source, -1))
        self.behind = max((end.behind for end in ends), default=0)
        """Once so much of the keyed topic is committed, nobody runs on those rows again."""
        self.announced = False
        """This worker has said what it tries, and has not taken that back."""
        self.answered = False
        """The first rows have been run on, and are written."""

    @classmethod
    async def of(cls, tail: TailReader, topic: str, lane: int) -> KeyedPoisonRows:
        """Those of a lane, by what stands at the end of the topic of snapshots."""
        newest: list[ConsumerRecord] = []
        async for start, end in tail.backwards(topic, lane):
            records = await tail.between(topic, lane, start, end)
            newest = [*records, *newest]
            if not all(HEADER in dict(record.headers) for record in records):
                break  # workers that end again and again write nothing else
        return cls(attempts_by_worker(newest))

    def portions(self, due_rows: Sequence[DueRows]) -> Iterator[Portion]:
        """How these rows are to be run on, in their turn."""
        turn = _rows_in_turn(due_rows)
        careful = [
            at for at, (part, row) in enumerate(turn)
            if int(due_rows[part].batch.rows.offsets[row])
            <= self._careful_to.get(due_rows[part].batch.partition, -1)
        ]  # fmt: skip
        single = turn[: careful[-1] + 1] if careful else []
        left: list[DueRows | None] = [*due_rows]
        for part, row in single:
            due, source = due_rows[part], due_rows[part].batch.partition
            # What has no rows, and only says how far its source has come, stays in its order.
            before = [at for at, other in enumerate(due_rows[:part])
                      if left[at] is not None and other.batch.partition == source]  # fmt: skip
            yield Portion(
                [*(due_rows[at] for at in before), _slice(due, row, row + 1)],
                self._why_absent(source, int(due.batch.rows.offsets[row])),
                alone=True,
            )
            for at in before:
                left[at] = None
            whole = row + 1 == len(due.batch)
            left[part] = None if whole else _slice(due, row + 1, len(due.batch))
        rest = [due for due in left if due is not None]
        if rest:
            yield Portion(rest)

    def _why_absent(self, source: int, offset: int) -> str:
        row = {source: (offset, offset)}
        ended = sum(attempt.rows == row for attempt in self.others.values())
        return (
            f"{ended} workers ended while they ran on this row alone"
            if ended >= ENDINGS_AT_ROW
            else ""
        )


class AttemptLog:
    """What this worker says on the topic of snapshots of the rows that it is about to run on."""

    def __init__(self, app: StageApp, topic: str, pulse: StagePulse) -> None:
        self._app = app
        self._topic = topic
        self._pulse = pulse

    async def say(
        self, lane: int, poison_rows: KeyedPoisonRows, portion: Portion, written_before: int
    ) -> None:
        """Say that a portion is about to be run on, to who comes next and to the joins.

        Of the first one of a lane, and of each that is one row.
        """
        attempt = portion.attempt(written_before)
        if attempt is None or not (portion.alone or not poison_rows.answered):
            return
        poison_rows.announced = True
        await self._write(lane, [attempt_record(attempt, _now_ms())])
        tries = self._pulse.tries
        await all_done([tries(source, *ends, lane) for source, ends in attempt.rows.items()])

    async def take_back(self, lane: int, poison_rows: KeyedPoisonRows, committed: int) -> bool:
        """What was run on is written; whether there is nothing more to look for in the lane.

        What others have said stands until it is *committed*.
        """
        if poison_rows.announced:
            await self._write(lane, [attempt_record(None, _now_ms())])
            poison_rows.announced, poison_rows.answered = False, True
        if not poison_rows.answered or committed < poison_rows.behind:
            return False
        now_ms = _now_ms()
        await self._write(
            lane, [attempt_record(None, now_ms, worker) for worker in poison_rows.others]
        )
        return True

    async def _write(self, lane: int, records: Sequence[Record]) -> None:
        if records:
            await self._app.writer.write(self._topic, lane, records)


def _now_ms() -> int:
    return int(time.time() * 1000)


def attempt_record(attempt: RunAttempt | None, now_ms: int, worker: str = WORKER_RUN) -> Record:
    """What *worker* is about to run on, as a record; None takes it back."""
    value = None if attempt is None else attempt.model_dump_json().encode()
    return Record(f"tried/{worker}".encode(), value, now_ms, [(HEADER, b"1")])


def attempts_by_worker(records: Iterable[ConsumerRecord]) -> dict[str, RunAttempt]:
    """What each worker has said last and not taken back; other records are none of it."""
    attempts: dict[str, RunAttempt] = {}
    for record in records:
        if HEADER not in dict(record.headers):
            continue
        worker = (record.key or b"").decode(errors="replace").partition("/")[2]
        attempts.pop(worker, None)
        if record.value is not None:
            with suppress(ValidationError):
                attempts[worker] = RunAttempt.model_validate_json(record.value)
    return attempts


def _rows_in_turn(due_rows: Sequence[DueRows]) -> list[tuple[int, int]]:
    """All rows, as the place of their part and in it, in the order in which windows take them in.

    It is that of `agents.stages.key_partition.KeyPartition.observe`.
    """
    batches = [due.batch for due in due_rows]
    parts = np.concatenate([np.full(len(batch), at) for at, batch in enumerate(batches)])
    rows = np.concatenate([np.arange(len(batch)) for batch in batches])
    sources = np.concatenate([np.full(len(batch), batch.partition) for batch in batches])
    offsets = np.concatenate([batch.rows.offsets for batch in batches])
    clocks = np.concatenate([due.clocks_ms for due in due_rows])
    turn = np.lexsort((offsets, sources, clocks))
    return list(zip(parts[turn].tolist(), rows[turn].tolist(), strict=True))


def _slice(due: DueRows, start: int, stop: int) -> DueRows:
    """Some of the rows; a whole part stays what it is."""
    n = len(due.batch)
    if (start, stop) == (0, n):
        return due
    early = max(0, stop - max(start, n - due.early))
    return replace(
        due, batch=due.batch[start:stop], clocks_ms=due.clocks_ms[start:stop],
        early=early,
    )  # fmt: skip
