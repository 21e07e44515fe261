"""Rows of partitions come out in the order of event time, all of them, with little held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from agents.dataset.time_order import TimeOrder

TIMES = st.lists(st.integers(0, 200), max_size=60)


def table_of(partition: int, times: list[int], start: int) -> Any:
    """Rows with the time as `at`, and where each was read."""
    return pa.table({
        "at": pa.array(times, pa.timestamp("ms")),
        "partition": [partition] * len(times), "offset": [*range(start, start + len(times))],
    })  # fmt: skip


def source_of(
    partition: int, times: list[int], size: int, reads: list[int]
) -> Callable[[], Awaitable[Any | None]]:
    parts = iter(range(0, len(times), size))

    async def more() -> Any | None:
        start = next(parts, None)
        if start is None:
            return None
        reads.append(partition)
        return table_of(partition, times[start : start + size], start)

    return more


async def merged(partitions: list[list[int]], size: int) -> list[dict[str, Any]]:
    reads: list[int] = []
    sources = [source_of(number, times, size, reads) for number, times in enumerate(partitions)]
    return [
        row
        async for table in TimeOrder("at", sources).tables()
        for row in table.to_pylist()
    ]  # fmt: skip


@given(st.lists(TIMES.map(sorted), min_size=1, max_size=4), st.integers(1, 7))
def test_partitions_that_are_in_order_come_out_in_order(
    partitions: list[list[int]], size: int
) -> None:
    rows = asyncio.run(merged(partitions, size))
    times = [row["at"] for row in rows]
    assert times == sorted(times)
    for number, own in enumerate(partitions):
        offsets = [row["offset"] for row in rows if row["partition"] == number]
        assert offsets == [*range(len(own))]


@given(st.lists(TIMES, min_size=1, max_size=4), st.integers(1, 7))
def test_no_row_is_lost_or_doubled_whatever_order_they_are_in(
    partitions: list[list[int]], size: int
) -> None:
    rows = asyncio.run(merged(partitions, size))
    there = sorted((row["partition"], row["offset"]) for row in rows)
    assert there == [
        (number, offset) for number, own in enumerate(partitions) for offset in range(len(own))
    ]


async def test_a_partition_that_is_ahead_waits_for_the_others() -> None:
    reads: list[int] = []
    ahead, behind = [*range(100, 160)], [*range(60)]
    sources = [source_of(0, ahead, 10, reads), source_of(1, behind, 10, reads)]
    async for _ in TimeOrder("at", sources).tables():
        if reads.count(1) < 6:
            assert reads.count(0) == 1, "one block of the partition ahead is held, no more"
