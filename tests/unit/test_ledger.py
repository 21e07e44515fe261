"""Every source record ends once: the ledger says which did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.ledger import Account, Ledger

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


def test_an_account_may_start_at_an_offset() -> None:
    ledger = ledger_of([0, 1, 2, 3, 4], decided=[2, 2, 4], dead=[1])
    assert ledger.account(0, start=2) == Account(inputs=3, decided=2, lost=1, duplicated=1)
    assert ledger.account(0, start=3) == Account(inputs=2, decided=1, lost=1)
    assert ledger.account(0, start=1_000_000) == Account()


def test_an_account_from_an_offset_leaves_the_ledger_as_it_was() -> None:
    ledger = ledger_of([0, 1], decided=[0, 1])
    ledger.account(0, start=2)
    assert ledger.account(0) == Account(inputs=2, decided=2)


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
    assert Account(1, 2, 3, 4, 5, 6, 7) + Account(10, 20, 30, 40, 50, 60, 70) == Account(
        11, 22, 33, 44, 55, 66, 77
    )
    assert Account(1, 2, 3, 4, 5, 6, 7).row() == (1, 2, 3, 4, 5, 6, 7)


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
    assert ledger.account(0, start=1) == Account(inputs=1, decided=1)


def model(entries: list[tuple[Kind, int, list[int]]], partition: int, start: int) -> Account:
    """What the ledger says, from counts in dictionaries."""
    counts: dict[Kind, Counter[int]] = {"enter": Counter(), "decide": Counter(), "bury": Counter()}
    for kind, at, offsets in entries:
        if at == partition:
            counts[kind].update(offsets)
    there = {offset for offset in counts["enter"] if offset >= start}
    ends = {offset: counts["decide"][offset] + counts["bury"][offset] for offset in there}
    last = max(counts["decide"], default=-1)
    return Account(
        inputs=len(there),
        decided=sum(counts["decide"][offset] > 0 for offset in there),
        dead=sum(counts["bury"][offset] > 0 for offset in there),
        in_flight=sum(n == 0 and offset > last for offset, n in ends.items()),
        lost=sum(n == 0 and offset < last for offset, n in ends.items()),
        duplicated=sum(max(n - 1, 0) for n in ends.values()),
    )


@given(
    entries=st.lists(
        st.tuples(
            st.sampled_from(["enter", "decide", "bury"]),
            st.integers(0, 2),
            st.lists(st.one_of(st.integers(0, 12), st.integers(0, 5000)), max_size=12),
        ),
        max_size=12,
    ),
    start=st.integers(0, 14),
)
def test_the_ledger_agrees_with_plain_counting(
    entries: list[tuple[Kind, int, list[int]]], start: int
) -> None:
    ledger = Ledger()
    for kind, partition, offsets in entries:
        getattr(ledger, kind)(partition, iter(offsets))
    for partition in range(3):
        account = ledger.account(partition, start)
        assert account == model(entries, partition, start)
        assert account.decided + account.dead + account.unaccounted >= account.inputs
    total = sum((model(entries, partition, 0) for partition in range(3)), Account())
    assert ledger.total() == total
    assert ledger.decisions == sum(len(o) for kind, _, o in entries if kind == "decide")
    assert ledger.dead_letters == sum(len(o) for kind, _, o in entries if kind == "bury")
