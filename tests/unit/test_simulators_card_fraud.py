"""What may happen to the card-fraud stream; the stream itself is in test_card_fraud_simulator."""

from __future__ import annotations

import numpy as np
import pytest

from models.simulators.card_fraud import Transactions, simulate_days
from models.simulators.scenario import Incident, Scenario

ATTACK = Scenario(incidents=(Incident(start_day=8 / 24, hours=2),))


def day(scenario: Scenario) -> Transactions:
    return next(simulate_days(1, customers=1000, terminals=5000, scenario=scenario))


def test_an_attack_adds_misuses_of_many_cards_while_it_lasts() -> None:
    block = day(ATTACK)
    attack = block.scenario == 4
    assert 500 < attack.sum() < 700  # 300 an hour
    assert block.is_fraud[attack].all()
    hour = block.occurred_at[attack].astype("datetime64[h]").astype(np.int64) % 24
    assert set(hour.tolist()) == {8, 9}
    assert 50 < len(np.unique(block.customer_id[attack])) <= 100  # a tenth of the cards


def test_an_attack_leaves_the_other_transactions_as_they_are() -> None:
    calm, block = day(Scenario()), day(ATTACK)
    others = block.scenario != 4
    for name in ("occurred_at", "customer_id", "terminal_id", "amount", "scenario"):
        assert np.array_equal(getattr(calm, name), getattr(block, name)[others])


def test_drift_raises_amounts_gradually_and_no_outcome() -> None:
    calm, drifted = day(Scenario()), day(Scenario(drift=3.0))
    assert np.array_equal(calm.is_fraud, drifted.is_fraud)
    factor = drifted.amount.sum() / calm.amount.sum()
    assert factor == pytest.approx(1.15, abs=0.03)  # half of 30 %, at noon
    assert drifted.amount[:50].sum() < 1.1 * calm.amount[:50].sum()


def test_an_attack_where_nobody_can_pay_adds_nothing() -> None:
    blocks = simulate_days(1, customers=5, terminals=0, days=1, scenario=ATTACK)
    assert sum(map(len, blocks)) == 0
