"""Card transactions with three kinds of fraud, as an endless stream in constant memory.

Source: Le Borgne, Siblini, Lebichot, Bontempi, *Reproducible Machine Learning for Credit Card
Fraud Detection* (2022), chapter 3, "Transaction data simulator", written from its description:

    who       customers and terminals live at uniform places in a square of 100 by 100; a
              customer pays at the terminals nearer than `radius`, so some never pay
    when      Poisson(rate) transactions a day, rate ~ U(0, 4); the second of the day is
              Normal(43200, 20000), and a transaction that falls outside its day is dropped
    how much  Normal(mean, mean / 2), mean ~ U(5, 100); when negative, U(0, 2 · mean) instead
    fraud 1   every amount above 220
    fraud 2   each day 2 terminals are compromised: all their transactions, for 28 days
    fraud 3   each day 3 cards are stolen: a third of their transactions, amount · 5, for 14 days

A later kind replaces the number of an earlier one. One difference: the book takes a third of
a stolen card's transactions by looking at all 14 days; a stream cannot look ahead, so here
each one is taken with probability 1/3.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import Bools, Floats64, Ints
from models.simulators.card_population import Population, populate
from models.simulators.scenario import CALM, LabelledEvent, Scenario

START = date(2018, 4, 1)
DAY_S = 86_400
LARGE_AMOUNT = 220.0
TERMINALS_A_DAY, TERMINAL_DAYS = 2, 28
CARDS_A_DAY, CARD_DAYS = 3, 14
STOLEN_SHARE, STOLEN_FACTOR = 1 / 3, 5.0
DRIFT_FACTOR = 0.1
"""Drift of 1: everything costs a tenth more; what is fraud stays as it was."""
ATTACKED_SHARE, ATTACKS_AN_HOUR = 0.1, 300
"""Incident: so many misuses of a tenth of the cards, each at STOLEN_FACTOR times its mean."""


@dataclass(frozen=True, slots=True)
class Transactions:
    """One day of transactions in time order, as columns of N rows each."""

    transaction_id: Ints
    """0, 1, 2, … over the whole stream."""
    occurred_at: NDArray[np.datetime64]
    """datetime64[ms], UTC, on whole seconds."""
    customer_id: Ints
    terminal_id: Ints
    amount: Floats64
    is_fraud: Bools
    scenario: NDArray[np.int8]
    """0 genuine; 1 large amount, 2 compromised terminal, 3 stolen card, 4 attack."""

    def __len__(self) -> int:
        return len(self.transaction_id)


class _Payments(NamedTuple):
    """Some of a day's transactions, as columns of N rows each."""

    second: Ints
    """Of the day."""
    customer: Ints
    terminal: Ints
    amount: Floats64
    kind: NDArray[np.int8]
    """As in `Transactions.scenario`."""


def simulate_days(
    seed: int,
    *,
    customers: int = 5000,
    terminals: int = 10_000,
    radius: float = 5.0,
    start: date = START,
    days: int | None = None,
    scenario: Scenario = CALM,
) -> Iterator[Transactions]:
    """Yield one block of transactions a day, without end when *days* is None.

    The same arguments give the same bits however much is consumed; numpy may change its
    distributions between versions (NEP 19).
    """
    rng = np.random.default_rng(seed)
    people = populate(rng, customers, terminals, radius)
    bad_terminals: deque[Ints] = deque(maxlen=TERMINAL_DAYS)
    stolen_cards: deque[Ints] = deque(maxlen=CARD_DAYS)
    attacks = np.random.default_rng([seed, 1])  # of its own: the other draws stay as they are
    first_id = 0
    for day in count() if days is None else range(days):
        second, customer, terminal, amount = _genuine_day(rng, people)
        kind = np.where(amount > LARGE_AMOUNT, np.int8(1), np.int8(0))

        bad_terminals.append(_draw(rng, terminals, TERMINALS_A_DAY))
        kind[_times_drawn(bad_terminals, terminals)[terminal] > 0] = 2

        stolen_cards.append(_draw(rng, customers, CARDS_A_DAY))
        misuses = rng.binomial(_times_drawn(stolen_cards, customers)[customer], STOLEN_SHARE)
        kind[misuses > 0] = 3
        amount = np.round(amount * np.power(STOLEN_FACTOR, misuses, dtype=np.float64), 2)

        second, customer, terminal, amount, kind = _in_time_order(
            _Payments(second, customer, terminal, amount, kind),
            _attack(attacks, people, day, scenario),
        )
        dearer = 1 + DRIFT_FACTOR * scenario.shift(day + second / DAY_S)

        yield Transactions(
            transaction_id=np.arange(first_id, first_id + len(second), dtype=np.int64),
            occurred_at=np.datetime64(start, "ms") + (day * DAY_S + second) * 1000,
            customer_id=customer,
            terminal_id=terminal,
            amount=np.round(amount * dearer, 2),
            is_fraud=kind > 0,
            scenario=kind,
        )
        first_id += len(second)


def simulate(
    seed: int,
    *,
    customers: int = 5000,
    terminals: int = 10_000,
    radius: float = 5.0,
    start: date = START,
    days: int | None = None,
    scenario: Scenario = CALM,
) -> Iterator[LabelledEvent]:
    """Yield the transactions of `simulate_days` one by one, as events of the card-fraud pipeline.

    >>> event, label = next(simulate(seed=7, customers=50, terminals=500))
    >>> sorted(event)
    ['amount', 'customer_id', 'occurred_at', 'terminal_id', 'transaction_id']
    """
    for block in simulate_days(
        seed, customers=customers, terminals=terminals, radius=radius, start=start, days=days,
        scenario=scenario,
    ):  # fmt: skip
        rows = zip(
            block.transaction_id.tolist(),
            np.datetime_as_string(block.occurred_at, unit="s").tolist(),
            block.customer_id.tolist(),
            block.terminal_id.tolist(),
            block.amount.tolist(),
            block.is_fraud.tolist(),
            strict=True,
        )
        for transaction, occurred_at, customer, terminal, amount, is_fraud in rows:
            event: dict[str, object] = {
                "transaction_id": f"tx-{transaction:09d}",
                "occurred_at": f"{occurred_at}Z",
                "customer_id": f"c-{customer}",
                "terminal_id": f"t-{terminal}",
                "amount": amount,
            }
            yield LabelledEvent(event, is_fraud)


def _genuine_day(rng: np.random.Generator, people: Population) -> tuple[Ints, Ints, Ints, Floats64]:
    """Second of the day (ascending), customer, terminal and amount of a day without fraud."""
    customer = np.repeat(np.arange(len(people.reach)), rng.poisson(people.daily_rate))
    second = np.floor(rng.normal(DAY_S / 2, 20_000, len(customer))).astype(np.int64)
    inside = np.flatnonzero((second > 0) & (second < DAY_S))
    inside = inside[np.argsort(second[inside], kind="stable")]
    second, customer = second[inside], customer[inside]

    mean = people.mean_amount[customer]
    amount = rng.normal(mean, mean / 2)
    amount = np.where(amount < 0, rng.uniform(0, 2 * mean), amount)
    nth = rng.integers(0, people.reach[customer])
    return second, customer, people.terminal[people.first[customer] + nth], np.round(amount, 2)


def _attack(
    rng: np.random.Generator, people: Population, day: int, scenario: Scenario
) -> _Payments:
    """The misuses of a day in which an incident goes on."""
    seconds = np.arange(DAY_S if scenario.incidents else 0)
    under_attack = seconds[scenario.in_incident(day + seconds / DAY_S)]
    cards = np.flatnonzero(people.reach > 0)
    if not len(cards) or not len(under_attack):
        nothing = np.empty(0, np.int64)
        return _Payments(nothing, nothing, nothing, np.empty(0), np.empty(0, np.int8))
    misuses = rng.poisson(len(under_attack) / 3600 * ATTACKS_AN_HOUR)
    attacked = cards[_draw(rng, len(cards), math.ceil(len(cards) * ATTACKED_SHARE))]
    customer = rng.choice(attacked, misuses)
    nth = rng.integers(0, people.reach[customer])
    return _Payments(
        second=rng.choice(under_attack, misuses),
        customer=customer,
        terminal=people.terminal[people.first[customer] + nth],
        amount=np.round(STOLEN_FACTOR * people.mean_amount[customer], 2),
        kind=np.full(misuses, 4, np.int8),
    )


def _in_time_order(*parts: _Payments) -> _Payments:
    order = np.argsort(np.concatenate([part.second for part in parts]), kind="stable")
    return _Payments(*(np.concatenate(column)[order] for column in zip(*parts, strict=True)))


def _draw(rng: np.random.Generator, population: int, wanted: int) -> Ints:
    """Different members of 0 … population - 1, as many as wanted or as there are."""
    return rng.choice(population, min(wanted, population), replace=False)


def _times_drawn(draws: deque[Ints], population: int) -> Ints:
    """How many of the remembered draws each member is in; (population,)."""
    return np.bincount(np.concatenate(draws), minlength=population)
