"""Rows of partitions come out in the order of event time, all of them, with little held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from agents.dataset.outcome_store import EventNames, OutcomeStore
from agents.dataset.time_order import TimeOrder
from topics.events import DecodedOutcomes

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


def outcomes(*said: tuple[str, str, bool, int, int], first: int = 0) -> DecodedOutcomes:
    """(id, key, label, strength, known and published at) of outcomes that follow each other."""
    ids, keys, labels, strengths, times = zip(*said, strict=True)
    known = np.array(times)
    return DecodedOutcomes(
        np.arange(len(said)), ids, keys, known, np.array(labels), [""] * len(said),
        np.array(strengths), known, known, 0, np.arange(first, first + len(said)), [],
    )  # fmt: skip


def test_the_outcome_of_the_highest_rank_counts_and_one_of_another_key_does_not(
    tmp_path: Any,
) -> None:
    def names(*pairs: tuple[object, object]) -> EventNames:
        ids, keys = zip(*pairs, strict=True)
        return EventNames(np.array(ids, object), np.array(keys, object))

    with OutcomeStore.in_folder(tmp_path) as store:
        store.add(outcomes(("a", "k", True, 0, 1), ("b", "k", False, 0, 2), ("c", "k", True, 1, 3)))
        store.add(outcomes(("a", "k", False, 0, 9), ("c", "k", False, 0, 9), first=3))
        found = store.of(names(("c", "k"), ("a", "k"), ("c", "other"), ("d", "k"), ("c", "k")))
    assert found.known.tolist() == [True, True, False, False, True]
    assert found.positive[found.known].tolist() == [True, False, True]
    assert found.published_ms[found.known].tolist() == [3, 9, 3]
    assert not [*tmp_path.iterdir()]
