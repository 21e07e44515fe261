"""Rows of several source partitions wait until their past is complete."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.windows.event_time_order import EventTimeOrder
from tests.unit.stage_batches import batch_of
from topics.records.stage_batch import StageBatch


def order_of(outcome_delay_ms: int | None = None) -> EventTimeOrder:
    return EventTimeOrder(2, outcome_delay_ms=outcome_delay_ms, stall_timeout_s=10.0)


def rows(partition: int, times: list[int], first: int = 0, *, backlog: bool = False) -> StageBatch:
    batch = batch_of("c", list(range(first, first + len(times))), backlog=backlog)
    timed = replace(batch.rows, event_time_ms=np.array(times, np.int64))
    return replace(batch, partition=partition, rows=timed)


def times(order: EventTimeOrder, now: float = 0.0, ends: object = None) -> list[list[int]]:
    released = order.pop(now, ends)  # type: ignore[arg-type]
    return [part.batch.rows.event_time_ms.tolist() for part in released]


def test_a_row_waits_until_every_source_has_come_as_far() -> None:
    order = order_of()
    order.push(rows(0, [10, 20, 30]), 0)
    assert times(order) == []
    order.push(rows(1, [15, 25]), 1)
    assert times(order) == [[10, 20], [15]], "of 25 and 30 there may be more"
    assert order.rows == 2


def test_a_source_that_has_come_to_its_end_holds_nobody_up() -> None:
    order = order_of()
    order.push(rows(0, [10, 20]), 0)
    assert times(order, ends=({0: 2, 1: 1}, {})) == [], "partition 1 has a record to come"
    assert times(order, ends=({0: 2, 1: 0}, {})) == [[10, 20]]


def test_an_event_waits_for_outcomes_that_it_can_see() -> None:
    order = order_of(outcome_delay_ms=100)
    order.push(rows(0, [200]), 0)
    assert times(order, ends=({0: 1, 1: 0}, {0: 1, 1: 0})) == []
    order.note_outcomes(rows(0, [90]))
    assert times(order, ends=({0: 1, 1: 0}, {0: 2, 1: 0})) == [], "one of before 100 may come"
    order.note_outcomes(rows(0, [101], first=1))
    assert times(order, ends=({0: 1, 1: 0}, {0: 3, 1: 0})) == [[200]]


def test_a_row_waits_for_a_source_that_lags_until_that_is_down_and_is_early_then() -> None:
    ends: tuple[dict[int, int], dict[int, int]] = ({0: 1, 1: 5}, {})
    order = order_of()
    order.push(rows(0, [10]), 0)
    assert times(order, 0.0, ends) == []
    assert times(order, 9.9, ends) == []
    (released,) = order.pop(10.1, ends)
    assert released.early_rows().tolist() == [True]


def test_a_row_that_every_source_has_come_to_is_not_early() -> None:
    order = order_of()
    order.push(rows(0, [10]), 0)
    order.push(rows(1, [20]), 1)
    (released,) = order.pop(0.0, ({0: 1, 1: 5}, {}))
    assert released.early_rows().tolist() == [False]


def test_a_source_is_down_by_what_it_keeps_back_and_not_by_having_had_nothing_to_give() -> None:
    order = order_of()
    order.push(rows(0, [10]), 0)
    assert times(order, 0.0, ({0: 1, 1: 0}, {})) == [[10]]
    order.push(rows(0, [30], first=1), 1)
    assert times(order, 100.0, ({0: 2, 1: 1}, {})) == []
    order.push(rows(1, [20]), 2)
    assert times(order, 111.0, ({0: 2, 1: 2}, {})) == [], "it goes on, so it is not down"
    assert times(order, 120.9, ({0: 2, 1: 2}, {})) == []
    assert sorted(times(order, 121.1, ({0: 2, 1: 2}, {}))) == [[20], [30]]


def test_what_was_seen_before_is_dropped_and_the_log_is_read_again_from_what_is_held() -> None:
    order = order_of()
    order.start_after(0, 1, 20, outcomes=False)
    order.push(rows(0, [10, 20, 30]), 7)
    order.push(rows(0, [40], first=3), 8)
    assert order.first_held == 7
    assert order.rows == 2
    assert times(order, ends=({0: 4, 1: 0}, {})) == [[30], [40]]
    assert order.first_held is None


def test_a_late_row_keeps_its_place_in_its_source() -> None:
    order = order_of()
    order.push(rows(0, [50, 10, 60]), 0)
    order.push(rows(1, [55]), 1)
    assert times(order) == [[50, 10]]


def live_rows(partition: int, at: list[tuple[int, int]], first: int = 0) -> StageBatch:
    """Rows of (event time, published)."""
    batch = rows(partition, [time for time, _ in at], first)
    published = np.array([ms for _, ms in at], np.int64)
    return replace(batch, rows=replace(batch.rows, published_ms=published))


NOW = 1_800_000_000_000


def test_an_event_that_is_ahead_of_its_time_holds_up_nobody_behind_it() -> None:
    order = order_of()
    order.push(live_rows(0, [(NOW, NOW), (NOW + 300_000, NOW + 1), (NOW + 2, NOW + 2)]), 0)
    order.push(live_rows(1, [(NOW + 5, NOW + 5)]), 1)
    assert times(order) == [[NOW, NOW + 300_000]]


SIZE = 100


def test_beyond_the_bound_a_source_is_left_in_the_log_and_read_again_when_waited_for() -> None:
    order = EventTimeOrder(2, outcome_delay_ms=None, stall_timeout_s=10.0, max_bytes=2 * SIZE)
    order.push(rows(1, [1]), 0, SIZE)
    for number in range(4):
        order.push(rows(0, [10 * number + 10], number), number + 1, SIZE)
    assert (order.rows, order.nbytes, order.left_at) == (2, 2 * SIZE, 2)
    assert order.read_again() is None, "what others wait for comes later in the log"
    order.push(rows(1, [35], 1), 5, SIZE)
    assert order.nbytes == 3 * SIZE, "that is taken in, whatever waits"
    assert sorted(times(order)) == [[1], [10]], "too many wait to wait for more of one time"
    assert order.read_again() == 2
    assert order.left_at is None
    for number in (1, 2, 3):
        order.push(rows(0, [10 * number + 10], number), number + 1, SIZE)
    order.push(rows(1, [35], 1), 5, SIZE)
    assert sorted(times(order)) == [[20], [30], [35]]
    assert sorted(times(order, ends=({0: 4, 1: 2}, {}))) == [[40]]


def test_a_source_that_was_left_in_the_log_is_not_down() -> None:
    order = EventTimeOrder(2, outcome_delay_ms=None, stall_timeout_s=10.0, max_bytes=SIZE)
    ends: tuple[dict[int, int], dict[int, int]] = ({0: 2, 1: 9}, {})
    order.push(rows(1, [5]), 0, SIZE)
    order.push(rows(0, [10]), 1, SIZE)
    order.push(rows(0, [20], 1), 2, SIZE)
    assert order.left_at == 2
    order.note_ends(0.0, ends)
    order.push(rows(1, [15], 1), 3, SIZE)
    assert order.behind_s(0, 100.0) == 0.0


def test_a_source_whose_reader_lives_is_slow_and_not_down() -> None:
    order = order_of()
    ends: tuple[dict[int, int], dict[int, int]] = ({0: 1, 1: 9}, {})
    order.push(rows(0, [10]), 0)
    assert times(order, 0.0, ends) == []
    for now in (8.0, 16.0, 24.0):
        order.hear(1, "reader", now)
        assert times(order, now, ends) == []
    assert (order.is_down(1, 33.9), order.any_down(33.9)) == (False, False)
    assert order.behind_s(1, 33.9) == 33.9, "for so long people are told that it has not come"
    assert order.is_down(1, 34.1)
    assert times(order, 34.1, ends) == [[10]]


def test_a_source_whose_readers_come_one_after_the_other_and_give_nothing_is_down() -> None:
    order = order_of()
    ends: tuple[dict[int, int], dict[int, int]] = ({0: 1, 1: 9}, {})
    order.push(rows(0, [10]), 0)
    assert times(order, 0.0, ends) == []
    for number in range(1, 9):
        order.hear(1, f"reader {number}", float(number))
    assert times(order, 11.1, ends) == [[10]], "heard of the first at 1 s, and of others after it"
    order.push(rows(1, [5]), 1)
    order.push(rows(0, [20], 1), 2)
    times(order, 12.0, ({0: 2, 1: 9}, {}))
    order.hear(1, "reader 9", 20.0)
    assert not order.is_down(1, 29.9), "it gave something, and its reader is believed again"


def test_what_was_left_in_the_log_does_not_wait_for_a_source_that_is_down() -> None:
    order = EventTimeOrder(2, outcome_delay_ms=None, stall_timeout_s=10.0, max_bytes=2 * SIZE)
    ends: tuple[dict[int, int], dict[int, int]] = ({0: 4, 1: 9}, {})
    order.push(rows(1, [5]), 0, SIZE)
    order.push(rows(0, [10, 20]), 1, 2 * SIZE)
    order.push(rows(0, [30, 40], 2), 2, 2 * SIZE)
    assert order.left_at == 2
    assert times(order, 0.0, ends) == [[5]]
    assert order.read_again() is None
    (released,) = order.pop(10.1, ends)
    assert released.batch.rows.event_time_ms.tolist() == [10]
    assert released.early_rows().tolist() == [True]
    assert order.read_again() == 2, "the row of 20 waits for no other source, and holds the bytes"
    order.push(rows(0, [30, 40], 2), 2, 2 * SIZE)
    assert times(order, 10.2, ends) == [[20], [30, 40]]
    order.push(rows(1, [7], 1), 3, SIZE)
    order.push(rows(0, [50], 4), 4, 2 * SIZE)
    assert order.left_at == 4, "it lives again"


@given(st.data())
def test_with_any_bound_each_row_leaves_once_in_its_turn(data: st.DataObject) -> None:
    partitions = data.draw(st.integers(1, 3))
    log: list[StageBatch] = []
    given_to = [0] * partitions
    clock = [data.draw(st.integers(0, 50)) for _ in range(partitions)]
    for _ in range(data.draw(st.integers(1, 25))):
        source = data.draw(st.integers(0, partitions - 1))
        steps = data.draw(st.lists(st.integers(-3, 20), min_size=1, max_size=4))
        clock[source] = max(clock[source], 0)
        at = (clock[source] + np.cumsum(steps)).tolist()
        clock[source] = at[-1]
        log.append(rows(source, at, given_to[source]))
        given_to[source] += len(at)
    ends: tuple[dict[int, int], dict[int, int]] = (dict(enumerate(given_to)), {})
    order = EventTimeOrder(
        partitions, outcome_delay_ms=None, stall_timeout_s=1e9, max_bytes=SIZE * 3
    )
    at_once = data.draw(st.integers(1, 3))
    position, steps_taken = 0, 0
    left: list[tuple[int, int, int]] = []
    while position < len(log) or order.first_held is not None or order.left_at is not None:
        steps_taken += 1
        assert steps_taken < 2000, "it goes on"
        for batch in log[position : position + at_once]:
            order.push(batch, position, SIZE)
            position += 1
        # Beyond the bound comes what others wait for: that may be each source in its turn.
        assert order.nbytes <= SIZE * (3 + at_once * partitions)
        is_full = order.is_full
        are_asked = is_full or position >= len(log) or data.draw(st.booleans())
        released = order.pop(0.0, ends if are_asked else None)
        turn = [
            (int(clock_ms), part.batch.partition, offset)
            for part in released
            for clock_ms, offset in zip(
                part.clocks_ms.tolist(), part.batch.rows.offsets.tolist(), strict=True
            )
        ]
        left += sorted(turn)
        assert is_full or not any(part.early for part in released)
        if (start := order.read_again()) is not None:
            position = start
    turns = [clock_ms for clock_ms, _, _ in left]
    assert turns == sorted(turns), "no row leaves before one of an earlier time"
    by_source = [[offset for _, of, offset in left if of == source] for source in range(partitions)]
    assert by_source == [sorted(offsets) for offsets in by_source]
    assert sorted((source, offset) for _, source, offset in left) == [
        (source, offset) for source in range(partitions) for offset in range(given_to[source])
    ]
