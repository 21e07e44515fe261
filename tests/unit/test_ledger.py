"""Every source record ends once: the ledger says which did not."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.audit.ledger import Account, Ledger, PartitionView, Ranges
from agents.audit.ledger_chunks import SIZE

Kind = Literal["enter", "decide", "bury"]


def ledger_of(
    entered: list[int],
    decided: Sequence[int] = (),
    dead: Sequence[int] = (),
) -> Ledger:
    ledger = Ledger()
    ledger.enter(0, entered)
    ledger.decide(0, decided)
    ledger.bury(0, dead)
    return ledger


def test_an_empty_ledger_has_nothing_to_account_for() -> None:
    assert Ledger().total() == Account()
    assert Ledger().account(3) == Account()
    assert Ledger().partitions() == []


def test_each_record_that_ends_once_is_accounted_for() -> None:
    account = ledger_of([0, 1, 2], decided=[0, 2], dead=[1]).total()
    assert account == Account(inputs=3, decided=2, dead=1)
    assert account.unaccounted == 0


def test_a_record_without_an_end_before_the_last_decision_is_lost() -> None:
    account = ledger_of([0, 1, 2], decided=[0, 2]).total()
    assert (account.lost, account.in_flight) == (1, 0)
    assert account.unaccounted == 1


def test_a_record_without_an_end_after_the_last_decision_is_in_flight() -> None:
    account = ledger_of([0, 1, 2, 3], decided=[0, 1]).total()
    assert (account.lost, account.in_flight) == (0, 2)
    assert account.unaccounted == 2


def test_records_are_in_flight_while_nothing_is_decided() -> None:
    assert ledger_of([5, 6]).total() == Account(inputs=2, in_flight=2)


def test_a_dead_letter_alone_makes_no_earlier_record_lost() -> None:
    """Dead letters of a batch are written before its decisions."""
    assert ledger_of([0, 1, 2], dead=[2]).total() == Account(inputs=3, dead=1, in_flight=2)


def test_a_second_decision_is_a_duplicate() -> None:
    assert ledger_of([0], decided=[0, 0, 0]).total().duplicated == 2


def test_a_second_dead_letter_is_a_duplicate() -> None:
    assert ledger_of([0], dead=[0, 0]).total().duplicated == 1


def test_a_decision_and_a_dead_letter_at_once_are_a_duplicate() -> None:
    account = ledger_of([0, 1], decided=[0, 1], dead=[0]).total()
    assert account == Account(inputs=2, decided=2, dead=1, duplicated=1)


@pytest.mark.parametrize("times", [255, 256, 257, 512, 1000])
def test_however_often_a_record_is_decided_it_is_decided(times: int) -> None:
    account = ledger_of([0], decided=[0] * times).total()
    assert account == Account(inputs=1, decided=1, duplicated=times - 1)


@pytest.mark.parametrize("times", [256, 512])
def test_a_record_that_is_read_often_is_one_record(times: int) -> None:
    assert ledger_of([0] * times, decided=[0]).total() == Account(inputs=1, decided=1)


def test_an_end_without_a_record_counts_for_nothing_but_its_records() -> None:
    ledger = ledger_of([0], decided=[0, 7], dead=[8])
    assert ledger.total() == Account(inputs=1, decided=1)
    assert (ledger.decisions, ledger.dead_letters) == (2, 1)


def test_what_is_seen_is_counted_with_its_duplicates() -> None:
    ledger = ledger_of([0, 1], decided=[0, 0], dead=[1, 1, 1])
    assert (ledger.decisions, ledger.dead_letters) == (2, 3)


def test_an_end_that_may_be_gone_is_not_missed() -> None:
    ledger = ledger_of([0, 1, 2, 3, 4], decided=[2, 2, 4], dead=[1])
    account = ledger.account(0, PartitionView(unseen=[(0, 2)]))
    assert account == Account(inputs=5, decided=2, dead=1, lost=1, duplicated=1, unjudged=1)
    assert ledger.account(0, PartitionView(unseen=[(0, 10)])).unjudged == 2
    assert ledger.account(0) == Account(inputs=5, decided=2, dead=1, lost=2, duplicated=1)


def test_a_record_that_is_gone_is_well_if_it_has_an_end_and_unread_if_not() -> None:
    ledger = ledger_of([5, 6], decided=[0, 1, 4, 5], dead=[2])
    account = ledger.account(0, PartitionView(gone=[(0, 5)], read_to=5))
    assert account == Account(inputs=2, decided=1, in_flight=1, expired=4, expired_unread=1)


def test_an_end_of_a_record_that_is_gone_is_a_duplicate_if_there_is_another() -> None:
    ledger = ledger_of([5], decided=[0, 0, 1, 5], dead=[1])
    assert ledger.account(0, PartitionView(gone=[(0, 2)], read_to=0)).duplicated == 2


def test_what_is_gone_behind_the_last_decision_is_in_flight_as_far_as_it_was_read() -> None:
    ledger = ledger_of([8], decided=[0, 1])
    account = ledger.account(0, PartitionView(gone=[(0, 8)], read_to=5))
    assert (account.in_flight, account.expired_unread) == (1 + 3, 3)
    assert ledger.account(0, PartitionView(gone=[(0, 8)])).unjudged == 6, (
        "nobody knows how far it was read"
    )


def test_what_is_gone_before_an_old_dead_letter_has_no_end_to_come() -> None:
    ledger = ledger_of([8, 9], decided=[0, 1], dead=[8])
    account = ledger.account(0, PartitionView(gone=[(0, 8)], read_to=9, ended_to=8))
    assert account == Account(inputs=2, dead=1, in_flight=1, expired=2, expired_unread=6)


def test_what_is_gone_may_have_been_markers_where_there_are_transactions() -> None:
    ledger = ledger_of([5], decided=[0, 1, 4, 5])
    account = ledger.account(0, PartitionView(gone=[(0, 5)], gaps=True, read_to=5))
    assert account == Account(inputs=1, decided=1, expired=3, unjudged=2)


def test_what_is_gone_and_could_have_had_an_end_that_is_gone_too_is_not_judged() -> None:
    ledger = ledger_of([90], decided=[60, 61, 90])
    account = ledger.account(0, PartitionView(gone=[(0, 90)], unseen=[(0, 60)], read_to=91))
    assert account == Account(inputs=1, decided=1, expired=2, expired_unread=28, unjudged=60)


def test_more_cannot_have_ended_than_there_are_ends_that_are_gone() -> None:
    ledger = ledger_of([60, 61, 90], decided=[70, 90])
    view = PartitionView(gone=[(0, 60)], unseen=[(0, 70)], read_to=91, ends_gone=55)
    account = ledger.account(0, view)
    assert account == Account(inputs=3, decided=1, expired_unread=7, unjudged=55)
    account = ledger.account(0, replace(view, ends_gone=1))
    assert account == Account(inputs=3, decided=1, lost=1, expired_unread=60, unjudged=1)
    assert ledger.account(0, replace(view, ends_gone=62)).unjudged == 62
    ledger.end_again(0, 3, 2, decided=True)
    account = ledger.account(0, view)
    assert (account.unjudged, account.expired, account.expired_unread) == (55, 1, 6)
    account = ledger.account(0, replace(view, gaps=True))
    assert (account.unjudged, account.expired_unread) == (61, 0), "they may have been markers"


def test_what_may_be_in_flight_is_not_held_against_the_ends_that_are_gone() -> None:
    ledger = ledger_of([0, 1, 2], dead=[1])
    view = PartitionView(unseen=[(0, 3)], ends_gone=0)
    assert ledger.account(0, view) == Account(inputs=3, dead=1, unjudged=2)


def test_a_redriven_record_that_is_gone_has_an_end() -> None:
    ledger = ledger_of([5], decided=[1, 5])
    ledger.end_again(0, 0, 2, decided=True)
    account = ledger.account(0, PartitionView(gone=[(0, 2)], read_to=5))
    assert account == Account(inputs=1, decided=1, expired=2)


def test_the_order_of_entries_and_ends_is_of_no_matter() -> None:
    ledger = Ledger()
    ledger.decide(0, [1])
    ledger.bury(0, [0])
    ledger.enter(0, [0, 1])
    assert ledger.total() == Account(inputs=2, decided=1, dead=1)


def test_partitions_are_kept_apart_and_added_up() -> None:
    ledger = Ledger()
    ledger.enter(1, [0, 1])
    ledger.enter(4, [0])
    ledger.decide(1, [1])
    ledger.bury(4, [0])
    assert ledger.partitions() == [1, 4]
    assert ledger.account(1) == Account(inputs=2, decided=1, lost=1)
    assert ledger.account(4) == Account(inputs=1, dead=1)
    assert ledger.total() == Account(inputs=3, decided=1, dead=1, lost=1)


def test_a_partition_with_ends_only_is_known() -> None:
    ledger = Ledger()
    ledger.bury(2, [5])
    assert ledger.partitions() == [2]


def test_offsets_far_apart_are_as_good_as_any() -> None:
    account = ledger_of([0, 3_000_000], decided=[3_000_000]).total()
    assert account == Account(inputs=2, decided=1, lost=1)


def test_accounts_add_field_by_field() -> None:
    numbers = tuple(range(1, 11))
    assert Account(*numbers) + Account(*(10 * n for n in numbers)) == Account(
        11, 22, 33, 44, 55, 66, 77, 88, 99, 110
    )
    assert Account(*numbers).row() == numbers


def redriven(*later: tuple[int, bool], decided: Sequence[int] = ()) -> Account:
    """Record 0 is dead, and later attempts at it have ended so."""
    ledger = ledger_of([0, 1], decided=[1, *decided], dead=[0])
    for attempt, by_decision in later:
        ledger.end_again(0, 0, attempt, decided=by_decision)
    return ledger.total()


def test_a_redriven_record_is_what_its_last_attempt_made_of_it() -> None:
    assert redriven() == Account(inputs=2, decided=1, dead=1)
    assert redriven((2, True)) == Account(inputs=2, decided=2, redriven=1)
    assert redriven((2, False)) == Account(inputs=2, decided=1, dead=1, redriven=1)
    assert redriven((2, False), (3, True)) == Account(inputs=2, decided=2, redriven=1)


def test_two_ends_of_one_attempt_are_a_duplicate() -> None:
    assert redriven((2, True), (2, True)).duplicated == 1
    assert redriven((2, False), (2, True)).duplicated == 1
    assert redriven((2, False), (2, False), (2, False)).duplicated == 2


def test_two_attempts_that_are_decided_are_a_duplicate() -> None:
    assert redriven((2, True), (3, True)).duplicated == 1
    assert redriven((2, True), decided=[0]).duplicated == 2, "dead, decided, and decided again"


def test_a_redriven_decision_makes_no_other_record_lost() -> None:
    ledger = ledger_of([0, 1], dead=[1])
    ledger.end_again(0, 1, 2, decided=True)
    assert ledger.total() == Account(inputs=2, decided=1, in_flight=1, redriven=1)


def test_a_redriven_end_whose_record_or_first_end_is_gone_is_no_loss() -> None:
    ledger = ledger_of([0, 1], decided=[1])
    ledger.end_again(0, 0, 2, decided=False)
    ledger.end_again(0, 99, 2, decided=True)
    ledger.end_again(7, 0, 2, decided=True)
    assert ledger.total() == Account(inputs=2, decided=1, dead=1, redriven=1)


def model(  # noqa: C901  # a list of cases, as plain as they come
    entries: list[tuple[Kind, int, list[int]]], partition: int, view: PartitionView
) -> Account:
    """What the ledger says, from counts in dictionaries."""
    counts: dict[Kind, Counter[int]] = {"enter": Counter(), "decide": Counter(), "bury": Counter()}
    for kind, at, offsets in entries:
        if at == partition:
            counts[kind].update(offsets)
    last = max(counts["decide"], default=-1)
    account = Account()

    def within(ranges: Ranges, offset: int) -> bool:
        return any(offset in range(*one) for one in ranges)

    for offset in range(6000):
        there, gone = counts["enter"][offset] > 0, within(view.gone, offset)
        ends = counts["decide"][offset] + counts["bury"][offset]
        if there or gone:
            account = account.more(duplicated=max(ends - 1, 0))
        if there:
            account = account.more(
                inputs=1,
                decided=int(counts["decide"][offset] > 0), dead=int(counts["bury"][offset] > 0),
            )  # fmt: skip
        elif gone and ends:
            account = account.more(expired=1)
        if (there or gone) and not ends:
            if within(view.unseen, offset):
                account = account.more(unjudged=1)
            elif there:
                account = account.more(lost=int(offset < last), in_flight=int(offset > last))
            elif offset < last or offset >= (view.read_to or 0):
                account = account.more(expired_unread=1)
            else:
                account = account.more(in_flight=1)
    return account


ranges_of_offsets = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 400)).map(lambda one: (one[0], sum(one))),
    max_size=2,
)


@given(
    entries=st.lists(
        st.tuples(
            st.sampled_from(["enter", "decide", "bury"]),
            st.integers(0, 1),
            st.lists(st.one_of(st.integers(0, 12), st.integers(0, 5000)), max_size=12),
        ),
        max_size=12,
    ),
    gone=st.integers(0, 14),
    unseen=ranges_of_offsets,
    read_to=st.integers(0, 20),
)
def test_the_ledger_agrees_with_plain_counting(
    entries: list[tuple[Kind, int, list[int]]], gone: int, unseen: Ranges, read_to: int
) -> None:
    # Where the bounds of chunks are must not matter: they are moved into the middle.
    ledger, shift = Ledger(), SIZE - 7
    for kind, partition, offsets in entries:
        getattr(ledger, kind)(partition, iter([offset + shift for offset in offsets]))
    view = PartitionView([(0, gone)], unseen, read_to=read_to)
    for partition in range(2):
        moved = PartitionView(
            [(shift, gone + shift)], [(a + shift, b + shift) for a, b in unseen],
            read_to=read_to + shift,
        )  # fmt: skip
        assert ledger.account(partition, moved) == model(entries, partition, view)
    total = sum((model(entries, partition, PartitionView()) for partition in range(2)), Account())
    assert ledger.total() == total
    assert ledger.decisions == sum(len(o) for kind, _, o in entries if kind == "decide")
    assert ledger.dead_letters == sum(len(o) for kind, _, o in entries if kind == "bury")


FAR = 650_000_000
"""An offset of a topic that has been there for long."""


def test_memory_is_for_what_is_unsettled_not_for_offsets() -> None:
    """Of 20 million records that end nearly in step, from a high offset on, one is lost."""
    ledger, step, steps = Ledger(), 100_000, 200
    lost = FAR + 7_654_321
    tracemalloc.start()
    for number in range(steps + 1):
        first = FAR + number * step
        if number < steps:
            ledger.enter(0, range(first, first + step))
        if number:
            ended = np.arange(first - step, first)
            ledger.decide(0, ended[(ended % 1000 != 0) & (ended != lost)])
            ledger.bury(0, ended[ended % 1000 == 0])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    n = step * steps
    account = ledger.account(0, PartitionView(gone=[(0, FAR)], unseen=[(0, FAR)], read_to=FAR))
    assert account == Account(
        inputs=n, decided=n - n // 1000 - 1, dead=n // 1000, lost=1, unjudged=FAR
    )
    assert peak < 8 * 2**20, f"{peak / 2**20:.0f} MiB"


def test_records_that_wait_in_millions_take_next_to_no_memory() -> None:
    ledger = Ledger()
    tracemalloc.start()
    for number in range(100):
        ledger.enter(0, range(number * 10**6, (number + 1) * 10**6))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ledger.total() == Account(inputs=10**8, in_flight=10**8)
    assert peak < 8 * 2**20, f"{peak / 2**20:.0f} MiB"


def test_what_comes_late_is_counted_however_long_its_chunk_is_done() -> None:
    ledger = Ledger()
    for number in range(40):
        at = range(number * SIZE, (number + 1) * SIZE)
        ledger.enter(0, at)
        ledger.decide(0, at)
    ledger.decide(0, [5, 5, 20 * SIZE])
    ledger.bury(0, [7])
    ledger.end_again(0, 8, 2, decided=True)
    n = 40 * SIZE
    assert ledger.total() == Account(inputs=n, decided=n, dead=1, duplicated=5, redriven=1)
