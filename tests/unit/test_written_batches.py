"""What a component has written is read again from where the others are, and no further back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agents.recovery.written_batches import WrittenBatches
from agents.stages.stage_writer import encoded_records
from tests.unit.stage_batches import batch_of

ROWS_A_RECORD = 3
A_FETCH = 20


@dataclass
class Log:
    """One partition, read by offset; every seventh record is somebody else's."""

    rows: int
    reads: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.records: list[Any] = []
        for first in range(0, self.rows, ROWS_A_RECORD):
            if len(self.records) % 7 == 3:
                self.add(b"no batch", [])
            batch = batch_of("risk", range(first, min(first + ROWS_A_RECORD, self.rows)))
            (record,) = encoded_records(batch, "binary")
            self.add(record.value or b"", list(record.headers))

    def add(self, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        record = SimpleNamespace(
            value=value, headers=headers, offset=len(self.records), topic="t", partition=0
        )
        self.records.append(record)

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return 0, len(self.records)

    async def between(self, topic: str, partition: int, start: int, end: int) -> list[Any]:
        self.reads.append((start, end))
        return self.records[start:end]

    async def between_chunks(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncGenerator[list[Any]]:
        self.reads.append((start, min(end, start + A_FETCH)))
        for first in range(start, end, A_FETCH):
            yield []  # a fetch may bring nothing
            yield self.records[first : min(end, first + A_FETCH)]


async def recorded(log: Any, offset: int) -> WrittenBatches:
    return await WrittenBatches.after(log, "t", 0, offset)


def rows_of(batches: list[Any]) -> list[int]:
    return [offset for batch in batches for offset in batch.rows.offsets.tolist()]


@pytest.mark.parametrize("offset", [-1, 0, 4, 2500, 2996, 2999])
async def test_all_that_is_behind_an_offset_comes_once_and_in_order(offset: int) -> None:
    found = await recorded(Log(3000), offset)
    taken: list[int] = []
    for first in range(offset + 1, 3000, 500):
        offsets = np.arange(first, min(first + 500, 3000))
        batches = await found.of(offsets)
        assert all(len(batch) == len(batch.signal) for batch in batches)
        taken += rows_of(batches)
    assert taken == list(range(offset + 1, 3000))


async def test_only_what_is_asked_for_is_given() -> None:
    found = await recorded(Log(30), 4)
    assert rows_of(await found.of(np.array([5, 6, 9, 10, 14]))) == [5, 6, 9, 10, 14]
    assert rows_of(await found.of(np.array([20]))) == [20], "what was passed over is gone"
    assert rows_of(await found.of(np.array([31, 40]))) == []


async def test_a_long_log_is_not_read_from_its_beginning() -> None:
    log = Log(30_000)
    found = await recorded(log, 29_990)
    await found.of(np.arange(29_991, 30_000))
    assert min(start for start, _ in log.reads) > len(log.records) - 300
    assert sum(end - start for start, end in log.reads) < 300
