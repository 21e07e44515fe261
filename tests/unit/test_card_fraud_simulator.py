"""The card-fraud simulator against chapter 3 of the handbook that describes it."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.simulators import SIMULATORS
from models.simulators.card_fraud import Transactions, simulate, simulate_days

DAYS = 60


@pytest.fixture(scope="module")
def blocks() -> list[Transactions]:
    return list(simulate_days(2018, days=DAYS))


def column(blocks: list[Transactions], name: str) -> np.ndarray:
    return np.concatenate([getattr(block, name) for block in blocks])


def same(one: Transactions, other: Transactions) -> bool:
    names = one.__dataclass_fields__
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_half_a_percent_to_one_percent_of_transactions_are_fraud(
    blocks: list[Transactions],
) -> None:
    assert 0.005 < column(blocks, "is_fraud").mean() < 0.01


def test_every_fraud_has_a_scenario_and_every_scenario_occurs(blocks: list[Transactions]) -> None:
    scenario = column(blocks, "scenario")
    assert set(scenario.tolist()) == {0, 1, 2, 3}
    assert np.array_equal(scenario > 0, column(blocks, "is_fraud"))


def test_every_amount_above_220_is_fraud(blocks: list[Transactions]) -> None:
    assert column(blocks, "is_fraud")[column(blocks, "amount") > 220].all()


def test_large_amount_fraud_is_always_above_220(blocks: list[Transactions]) -> None:
    assert (column(blocks, "amount")[column(blocks, "scenario") == 1] > 220).all()


def test_amounts_are_positive_with_two_decimals(blocks: list[Transactions]) -> None:
    amount = column(blocks, "amount")
    assert (amount >= 0).all()
    assert np.array_equal(amount, np.round(amount, 2))


def test_volume_and_mean_amount_follow_the_description(blocks: list[Transactions]) -> None:
    genuine = column(blocks, "amount")[~column(blocks, "is_fraud")]
    daily = np.array([len(block) for block in blocks])
    assert 9_200 < daily.mean() < 10_000  # 5,000 customers at 2 a day, less those cut at midnight
    assert 51 < genuine.mean() < 55  # E[mean] = 52.5


def test_customers_pay_at_most_about_four_times_a_day(blocks: list[Transactions]) -> None:
    rate = np.bincount(column(blocks, "customer_id"), minlength=5000) / DAYS
    assert rate.max() < 4 + 5 * np.sqrt(4 / DAYS)
    assert 0.22 < np.mean(rate < 1) < 0.30  # U(0, 4), thinned by 3 % at midnight
    assert 0.17 < np.mean(rate > 3) < 0.27


def test_times_of_day_are_normal_around_noon(blocks: list[Transactions]) -> None:
    second = column(blocks, "occurred_at").astype("datetime64[s]").astype(np.int64) % 86_400
    assert second.mean() == pytest.approx(43_200, abs=200)
    assert second.std() == pytest.approx(18_193, abs=100)  # 20,000 cut at ± 2.16 deviations


def test_at_most_fifty_six_terminals_are_compromised_on_a_day(blocks: list[Transactions]) -> None:
    for block in blocks:
        bad = np.unique(block.terminal_id[block.scenario == 2])
        assert len(bad) <= 2 * 28
        at_bad = np.isin(block.terminal_id, bad)
        assert block.is_fraud[at_bad].all()


def test_compromised_terminals_recover_after_28_days() -> None:
    days = list(simulate_days(5, customers=200, terminals=2000, radius=30, days=120))
    seen: dict[int, list[int]] = {}
    for day, block in enumerate(days):
        for terminal in np.unique(block.terminal_id[block.scenario == 2]).tolist():
            seen.setdefault(terminal, []).append(day)
    spans = np.array([max(when) - min(when) for when in seen.values()])
    assert np.mean(spans < 28) > 0.9  # the others were drawn twice
    assert 20 <= spans[spans < 28].max() <= 27


def test_a_third_of_a_stolen_cards_transactions_are_misused() -> None:
    days = simulate_days(11, customers=42, terminals=500, radius=40, days=200)
    shares = [(block.scenario == 3).mean() for block in days]
    # A card is drawn on a day with 3/42 and misused with 1/3: P(misuse) = 1 - (1 - 1/42)^14.
    assert np.mean(shares[14:]) == pytest.approx(1 - (1 - 1 / 42) ** 14, abs=0.03)


def test_misused_cards_pay_five_times_their_usual_amount(blocks: list[Transactions]) -> None:
    customer, amount = column(blocks, "customer_id"), column(blocks, "amount")
    stolen, genuine = column(blocks, "scenario") == 3, column(blocks, "scenario") == 0
    counts = np.bincount(customer[genuine], minlength=5000)
    usual = np.bincount(customer[genuine], amount[genuine], 5000) / np.maximum(counts, 1)
    known = stolen & (counts[customer] >= 20)
    assert np.mean(amount[known] / usual[customer[known]]) == pytest.approx(5, rel=0.1)


def test_a_customer_without_terminals_in_reach_never_pays() -> None:
    assert sum(map(len, simulate_days(1, customers=50, terminals=50, radius=0.0, days=5))) == 0


def test_customers_pay_only_at_terminals_in_reach() -> None:
    near = column(list(simulate_days(3, customers=1, terminals=1000, days=300)), "terminal_id")
    assert len(np.unique(near)) < 30  # about 1000 · π · 5² / 100² = 8 of 1000


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    customers=st.integers(0, 60),
    terminals=st.integers(0, 60),
    days=st.integers(0, 40),
)
def test_the_same_seed_gives_the_same_bits_whatever_is_consumed(
    seed: int, customers: int, terminals: int, days: int
) -> None:
    size = {"customers": customers, "terminals": terminals, "radius": 30.0}
    endless = list(islice(simulate_days(seed, **size), days))  # type: ignore[arg-type]
    bounded = list(simulate_days(seed, days=days, **size))  # type: ignore[arg-type]
    assert len(endless) == len(bounded) == days
    assert all(map(same, endless, bounded))


def test_other_seeds_give_other_transactions() -> None:
    one, other = (next(simulate_days(seed, customers=100, terminals=1000)) for seed in (1, 2))
    assert not same(one, other)


def test_time_never_goes_back_and_identifiers_count_up(blocks: list[Transactions]) -> None:
    assert (np.diff(column(blocks, "occurred_at")) >= np.timedelta64(0)).all()
    ids = column(blocks, "transaction_id")
    assert np.array_equal(ids, np.arange(len(ids)))


def test_events_say_what_the_day_blocks_say() -> None:
    block = next(simulate_days(7, customers=300, terminals=3000))
    labelled = list(simulate(7, customers=300, terminals=3000, days=1))
    assert [label for _, label in labelled] == block.is_fraud.tolist()
    event = labelled[5].event
    assert event == {
        "transaction_id": "tx-000000005",
        "occurred_at": f"{block.occurred_at[5].astype('datetime64[s]')}Z",
        "customer_id": f"c-{block.customer_id[5]}",
        "terminal_id": f"t-{block.terminal_id[5]}",
        "amount": block.amount[5].item(),
    }
    moment = datetime.fromisoformat(str(event["occurred_at"]))
    assert moment.tzinfo == UTC
    assert moment.date().isoformat() == "2018-04-01"


def test_the_registry_names_the_pipeline() -> None:
    event, label = next(SIMULATORS["card-fraud"](7))
    assert event["transaction_id"] == "tx-000000000"
    assert label in {True, False}


def test_memory_does_not_grow_with_the_stream() -> None:
    stream = simulate(1, customers=100, terminals=1000, radius=10.0)
    for _ in islice(stream, 10_000):
        pass
    tracemalloc.start()
    try:
        for _ in islice(stream, 60_000):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
