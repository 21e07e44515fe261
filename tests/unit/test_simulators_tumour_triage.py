"""The tumour-triage stream: real cases, and never one that was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from models.simulators.scenario import Incident, LabelledEvent, Scenario
from models.simulators.tumour_triage import HELD_OUT, simulate, training


def cases(rows: Iterable[LabelledEvent]) -> Counter[tuple[object, ...]]:
    """How often each case is there: its measurements and its label."""
    return Counter((*list(row.event.values())[3:], row.label) for row in rows)


@pytest.fixture(scope="module")
def real() -> Counter[tuple[object, ...]]:
    found = load_breast_cancer()
    return Counter(
        (*row, bool(benign == 0))
        for row, benign in zip(found.data.tolist(), found.target.tolist(), strict=True)
    )


def test_training_has_every_case_that_is_not_held_out_once(
    real: Counter[tuple[object, ...]],
) -> None:
    fitted, streamed = cases(training(0)), cases(islice(simulate(0), HELD_OUT))
    assert fitted.total() == 569 - HELD_OUT
    assert not fitted.keys() & streamed.keys()
    assert fitted + streamed == real


def test_what_is_held_out_does_not_depend_on_the_seed() -> None:
    one, other = list(islice(simulate(1), HELD_OUT)), list(islice(simulate(2), HELD_OUT))
    assert cases(one) == cases(other)
    assert one != other
    assert cases(training(1)) == cases(training(2))


def test_every_cycle_has_every_case_once_in_another_order() -> None:
    rows = list(islice(simulate(3), 2 * HELD_OUT))
    first, second = rows[:HELD_OUT], rows[HELD_OUT:]
    assert cases(first) == cases(second)
    assert max(cases(first).values()) == 1
    assert [row.label for row in first] != [row.label for row in second]


def test_a_case_that_comes_again_is_another_patient() -> None:
    rows = list(islice(simulate(3), 3 * HELD_OUT))
    assert len({row.event["patient_id"] for row in rows}) == 3 * HELD_OUT


def test_both_parts_have_about_as_many_malignant_cases() -> None:
    shares = [
        np.mean([row.label for row in rows])
        for rows in (training(0), islice(simulate(0), HELD_OUT))
    ]
    assert shares == pytest.approx([212 / 569] * 2, abs=0.06)


def test_referrals_come_in_office_hours() -> None:
    hours = [int(str(row.event["measured_at"])[11:13]) for row in simulate(1, days=10)]
    assert min(hours) >= 7
    assert max(hours) < 19
    assert 10 <= np.median(hours) <= 12


def test_drift_and_an_incident_scale_the_measurements() -> None:
    scenario = Scenario(drift=2.0, drift_from_day=1.0, incidents=(Incident(8 / 24, 2.0),))
    for calm, stirred in zip(
        simulate(1, days=3), simulate(1, days=3, scenario=scenario), strict=True
    ):
        at = str(calm.event["measured_at"])
        assert (stirred.event["measured_at"], stirred.label) == (at, calm.label)
        factor = stirred.event["worst_radius"] / calm.event["worst_radius"]  # type: ignore[operator]
        if at.startswith("2024-01-08"):
            assert factor == pytest.approx(1.3 if at[11:13] in {"08", "09"} else 1.0)
        elif at.startswith("2024-01-10"):
            assert factor == pytest.approx(1.1)
