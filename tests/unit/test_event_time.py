"""Rows of several source partitions wait until their past is complete."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from agents.event_time import EventTimeOrder
from tests.unit.stage_batches import batch_of
from topics.stage_batch import StageBatch


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
