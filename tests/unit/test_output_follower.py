"""What components said of events is read once, along with decisions, in any order of lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agents.explainer import output_follower
from agents.explainer.output_follower import OutputFollower
from tests.unit.stage_batches import batch_of
from tests.unit.test_recorded_event import TOPOLOGY, Tail, stage
from topics.records.stage_batch import StageBatch


def follower(tail: Tail, component: str) -> OutputFollower:
    return OutputFollower(tail, TOPOLOGY, component, 0)  # type: ignore[arg-type]  # all that it asks


def tail_of(component: str, *batches: StageBatch) -> Tail:
    tail = Tail()
    tail.write(stage(component, *batches))
    return tail


def lane(number: int, offsets: Sequence[int], covers_to: int = -1) -> StageBatch:
    return replace(
        batch_of("terminals", [*offsets], covers_from=0), lane=number, covers_to=covers_to
    )


async def offsets_of(of: OutputFollower, wanted: list[int]) -> list[int]:
    """The source offsets of the rows that are found of those wanted."""
    rows = await of.rows(wanted, 0)
    assert all(row.rows.offsets.tolist() == [offset] for offset, row in rows.items())
    return sorted(rows)


async def test_each_record_is_read_once_and_no_further_than_needed() -> None:
    tail = tail_of("features", *(batch_of("features", [at, at + 1]) for at in range(0, 20, 2)))
    of = follower(tail, "features")
    assert await offsets_of(of, [1, 4]) == [1, 4]
    assert tail.records_read == 3
    assert await offsets_of(of, [5, 9]) == [5, 9]
    assert tail.records_read == 5, "5 was in what had been read"


async def test_the_first_record_of_an_event_counts() -> None:
    again = batch_of("features", [2, 3])
    tail = tail_of("features", batch_of("features", [2]), replace(again, signal=again.signal + 1))
    rows = await follower(tail, "features").rows([2], 0)
    assert rows[2].signal.tolist() == batch_of("features", [2]).signal.tolist()


async def test_what_is_not_there_is_left_out_as_soon_as_later_events_are() -> None:
    tail = tail_of("features", *(batch_of("features", [at]) for at in (1, 2, 4, 5, 6)))
    of = follower(tail, "features")
    assert await offsets_of(of, [1, 3]) == [1]
    assert tail.records_read == 3
    assert await offsets_of(of, [4, 9]) == [4]
    assert await offsets_of(of, [10]) == []


async def test_lanes_may_be_as_far_apart_as_they_are() -> None:
    tail = tail_of(
        "terminals", lane(0, [0, 2]), lane(0, [4, 6], 7), lane(0, [8], 9), lane(1, [1, 3], 3),
        lane(1, [5], 6), lane(1, [7, 9]),
    )  # fmt: skip
    of = follower(tail, "terminals")
    assert await offsets_of(of, [0, 1]) == [0, 1]
    assert await offsets_of(of, [2, 3, 4]) == [2, 3, 4]
    assert await offsets_of(of, [5, 6, 8]) == [5, 6, 8]
    assert await offsets_of(of, [9]) == [9]
    assert tail.records_read == 6


async def test_what_has_no_room_to_be_kept_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_follower, "_MOST_KEPT", 2)
    ahead = [lane(0, [at]) for at in range(0, 20, 2)]
    tail = tail_of("terminals", *ahead, *(lane(1, [at]) for at in range(1, 20, 2)))
    of = follower(tail, "terminals")
    for wanted in ([1], [2, 3], [8, 9], [15, 18], [19]):
        assert await offsets_of(of, wanted) == wanted
    assert tail.records_read > 20


async def test_others_records_are_passed_over() -> None:
    mine, other = batch_of("features", [3]), replace(batch_of("features", [3]), topic="q.events")
    elsewhere = replace(batch_of("features", [3]), partition=1)
    tail = tail_of("features", other, elsewhere, replace(mine, signal=mine.signal * 2))
    rows = await follower(tail, "features").rows([3], 0)
    assert rows[3].signal.tolist() == (mine.signal * 2).tolist()
