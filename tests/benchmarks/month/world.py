"""Card payments whose fraud becomes another one day: a wave of small amounts.

A month begins in a world that is as it will be, and not with a first day: for 90 days before day 0
there were payments, so cards and terminals are compromised in as large numbers as later. Models are
fitted on the last 28 of these days, with windows over all of them. One genuine payment in ten is at
a shop that nobody knows: or each payment there would look odd from the first. The last 40 days are
published, so that the pipeline's windows (30 days, of outcomes that are a week late) are full on
day 0, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np

from models.simulators.card_fraud import simulate
from models.simulators.scenario import LabelledEvent

DAY_S = 86_400
_TEST_SHARE = 0.10
"""Of the payments of a day, so many more are tests of stolen cards."""
_TEST_AMOUNTS = (1.0, 5.0)
_NEW_SHOPS = 0.10
"""Of genuine payments, so many are at a shop that was never seen before."""


@dataclass(frozen=True, slots=True)
class World:
    """What happens, day by day; day 0 is the first that is published."""

    seed: int = 7
    customers: int = 500
    terminals: int = 1000
    days: int = 35
    past_days: int = 90
    """Before day 0."""
    fitted_days: int = 28
    """The last of these: what the first models are fitted on."""
    published_days: int = 40
    """The last of these: what the pipeline has seen by day 0."""
    change_day: int | None = 10
    """From when on stolen cards are tried out with small amounts; None for never."""
    first: date = date(2026, 3, 1)

    def time_of(self, day: float) -> datetime:
        """Event time of a day."""
        return datetime(self.first.year, self.first.month, self.first.day, tzinfo=UTC) + timedelta(
            days=day
        )

    def day_of(self, occurred_at: str) -> float:
        """The day of an event time, with its fraction."""
        return (datetime.fromisoformat(occurred_at) - self.time_of(0)).total_seconds() / DAY_S

    def past(self) -> Iterator[LabelledEvent]:
        """The labelled events before day 0."""
        return (each for each in self._all() if self._day(each) < 0)

    def events(self) -> Iterator[LabelledEvent]:
        """Those that are published, in the order of time."""
        rng = np.random.default_rng([self.seed, 2])
        day, of_day = 0, list[LabelledEvent]()
        for each in self._all():
            if self._day(each) < -self.published_days:
                continue
            if self._day(each) < 0:
                yield each
                continue
            if int(self._day(each)) > day:
                yield from self._with_tests(day, of_day, rng)
                day, of_day = int(self._day(each)), []
            of_day.append(each)
        yield from self._with_tests(day, of_day, rng)

    def _all(self) -> Iterator[LabelledEvent]:
        rng = np.random.default_rng([self.seed, 3])
        for number, each in enumerate(self._simulated()):
            if rng.random() < _NEW_SHOPS and not each.label:
                yield LabelledEvent({**each.event, "terminal_id": f"t-new-{number}"}, False)
            else:
                yield each

    def _simulated(self) -> Iterator[LabelledEvent]:
        return simulate(
            self.seed, customers=self.customers, terminals=self.terminals, radius=8.0,
            start=self.first - timedelta(days=self.past_days), days=self.past_days + self.days,
        )  # fmt: skip

    def _day(self, each: LabelledEvent) -> float:
        return self.day_of(str(each.event["occurred_at"]))

    def _with_tests(
        self, day: int, of_day: list[LabelledEvent], rng: np.random.Generator
    ) -> list[LabelledEvent]:
        """The events of a day, and the tests of stolen cards among them."""
        if self.change_day is None or day < self.change_day or not of_day:
            return of_day
        tests = []
        for number in range(rng.poisson(_TEST_SHARE * len(of_day))):
            like = of_day[rng.integers(len(of_day))].event
            at = self.time_of(day) + timedelta(seconds=int(rng.integers(DAY_S)))
            event = {
                **like, "transaction_id": f"test-{day}-{number}",
                # Shops of a day: or what is known of terminals would change with the wave.
                "terminal_id": f"t-{day}-{number}",
                "occurred_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "amount": round(float(rng.uniform(*_TEST_AMOUNTS)), 2),
            }  # fmt: skip
            tests.append(LabelledEvent(event, True))
        return sorted([*of_day, *tests], key=lambda each: str(each.event["occurred_at"]))
