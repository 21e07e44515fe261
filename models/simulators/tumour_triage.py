"""Real breast tumours, as a stream of referrals.

The 569 cases of the Wisconsin diagnostic data (Street, Wolberg, Mangasarian, *Nuclear feature
extraction for breast tumor diagnosis*, 1993), as scikit-learn ships them: 30 measurements of
the cell nuclei in a needle biopsy; the label is malignant (212 cases).

The cases are real; their patients' numbers and times are not, and neither is the order. A
fixed quarter of them (142) is held out: `training` yields each of the other 427 once, and
`simulate` streams the held-out ones, shuffled anew in each cycle, with a new patient each
time. So no figure of a streamed run is of a case that a model was fitted on, and a run that
is longer than 142 events says no more about accuracy than one cycle does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import chain, count, islice, repeat

import numpy as np

from models.arrays import Bools, Floats64, Ints
from models.simulators.scenario import CALM, LabelledEvent, Scenario

START = date(2024, 1, 8)
DAY_S = 86_400
HELD_OUT = 142
SPLIT_SEED = 569
"""Which cases are held out depends on no caller's seed."""
REFERRALS_A_DAY = 240
OPENS_S, CLOSES_S = 7 * 3600, 19 * 3600
BUSIEST_S, SPREAD_S = 11 * 3600, 2.5 * 3600
DRIFT_FACTOR = 0.05
"""Drift of 1: the microscope measures 5 % too much, of everything."""
INCIDENT_FACTOR = 0.3
"""Incident: a camera that is set wrong measures 30 % too much."""


@dataclass(frozen=True, slots=True)
class Cases:
    """N real cases."""

    names: tuple[str, ...]
    """What is measured: 30 names such as mean_radius."""
    measured: Floats64
    """(N, 30)."""
    malignant: Bools

    def __len__(self) -> int:
        return len(self.malignant)


def simulate(
    seed: int, *, days: int | None = None, scenario: Scenario = CALM
) -> Iterator[LabelledEvent]:
    """Yield the held-out cases over and over, in a new order each time.

    >>> event, label = next(simulate(seed=7))
    >>> len(event)
    33
    """
    rng = np.random.default_rng(seed)
    cases = _cases(held_out=True)
    order = chain.from_iterable(rng.permutation(len(cases)).tolist() for _ in repeat(None))
    return _referrals(cases, order, np.random.default_rng([seed, 1]), days, scenario)


def training(
    seed: int, *, days: int | None = None, scenario: Scenario = CALM
) -> Iterator[LabelledEvent]:
    """Yield each case that is not held out, once."""
    cases = _cases(held_out=False)
    order = iter(np.random.default_rng(seed).permutation(len(cases)).tolist())
    return _referrals(cases, order, np.random.default_rng([seed, 1]), days, scenario)


def _cases(*, held_out: bool) -> Cases:
    # The one simulator with a data set, which scikit-learn ships: a worker needs neither.
    from sklearn.datasets import load_breast_cancer

    dataset = load_breast_cancer()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(dataset.target))
    rows = order[:HELD_OUT] if held_out else order[HELD_OUT:]
    names = tuple(str(name).replace(" ", "_") for name in dataset.feature_names)
    return Cases(names, dataset.data[rows], dataset.target[rows] == 0)


def _referrals(
    cases: Cases,
    order: Iterator[int],
    rng: np.random.Generator,
    days: int | None,
    scenario: Scenario,
) -> Iterator[LabelledEvent]:
    """Referrals of the cases in *order*, in office hours, until the order or the days end."""
    patient = 0
    for day in count() if days is None else range(days):
        second = _seconds(rng)
        when = day + second / DAY_S
        factor = 1 + DRIFT_FACTOR * scenario.shift(when)
        factor *= 1 + INCIDENT_FACTOR * scenario.in_incident(when)
        times = np.datetime_as_string(np.datetime64(START, "s") + day * DAY_S + second)
        today = list(islice(order, len(second)))
        for case, at, more in zip(today, times.tolist(), factor.tolist(), strict=False):
            event: dict[str, object] = {
                "referral_id": f"ref-{patient:08d}",
                "measured_at": f"{at}Z",
                "patient_id": f"pt-{patient:08d}",
                **dict(zip(cases.names, (cases.measured[case] * more).tolist(), strict=True)),
            }
            patient += 1
            yield LabelledEvent(event, bool(cases.malignant[case]))
        if len(today) < len(second):
            return


def _seconds(rng: np.random.Generator) -> Ints:
    """Second of the day, ascending, of a day's referrals."""
    second = rng.normal(BUSIEST_S, SPREAD_S, rng.poisson(REFERRALS_A_DAY)).astype(np.int64)
    return np.sort(second[(second >= OPENS_S) & (second < CLOSES_S)])
