"""Figures and curves say how good signals are, on any labels that have both classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.report.quality import curves, quality, reliability, wilson


def calibrated(rows: int = 20_000, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    signals = rng.beta(0.4, 4, rows)
    return rng.random(rows) < signals, signals


def test_a_calibrated_signal_has_a_small_calibration_error_and_a_sure_one_a_large() -> None:
    labels, said = calibrated()
    assert quality(labels, said).calibration_error < 0.01
    assert quality(labels, np.sqrt(said)).calibration_error > 0.1
    assert quality(labels, said).auc == pytest.approx(quality(labels, np.sqrt(said)).auc)


def test_log_loss_and_brier_are_those_of_the_definitions() -> None:
    labels, said = np.array([True, False, True]), np.array([0.8, 0.3, 0.5])
    found = quality(labels, said)
    assert found.log_loss == pytest.approx(-np.log([0.8, 0.7, 0.5]).mean())
    assert found.brier == pytest.approx(np.mean([0.04, 0.09, 0.25]))


def test_signals_of_exactly_0_and_1_have_a_bin_and_a_finite_loss() -> None:
    labels, said = np.array([True, False, True]), np.array([0.0, 0.0, 1.0], np.float32)
    assert [(each.rows, each.positives) for each in reliability(labels, said)] == [(2, 1), (1, 1)]
    assert quality(labels, said).log_loss < 13.9


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=200))
def test_every_row_is_in_one_bin_of_reliability(rows: list[tuple[float, bool]]) -> None:
    labels, said = np.array([each for _, each in rows]), np.array([each for each, _ in rows])
    bins = reliability(labels, said)
    assert sum(each.rows for each in bins) == len(rows)
    assert sum(each.positives for each in bins) == labels.sum()
    assert all(each.low <= each.positives / each.rows <= each.high for each in bins)


@pytest.mark.parametrize(
    ("hits", "rows", "low", "high"),
    [(0, 20, 0.0, 0.1611), (10, 20, 0.2993, 0.7007), (81, 263, 0.2553, 0.3662)],
)
def test_intervals_are_wilsons(hits: int, rows: int, low: float, high: float) -> None:
    assert wilson(hits, rows) == pytest.approx((low, high), abs=1e-4)


def test_curves_are_thinned_and_keep_their_ends() -> None:
    found = curves(*calibrated())
    assert len(found.roc) <= 201
    assert len(found.precision_recall) <= 201
    assert (found.roc[0], found.roc[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert found.precision_recall[0][0] == 1.0
    assert found.precision_recall[-1] == (0.0, 1.0)
    rates = [rate for rate, _ in found.roc]
    assert rates == sorted(rates)


def test_the_area_under_the_thinned_curve_is_that_of_all_points() -> None:
    labels, said = calibrated()
    x, y = np.array(curves(labels, said).roc).T
    assert np.trapezoid(y, x) == pytest.approx(quality(labels, said).auc, abs=0.002)


def test_a_constant_signal_has_curves_too() -> None:
    found = curves(np.array([True, False, False]), np.zeros(3, np.float32))
    assert found.roc == [(0.0, 0.0), (1.0, 1.0)]
    assert [each.rows for each in found.reliability] == [3]
