"""A variant is chosen only if it is truly faster, and costs no more than the file allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from models.registry.variant_table import Losses, Speed, Variant
from models.variants.gate import breaches, is_faster, noise_of, pace_in_words, winner
from models.variants.speed import interval_of_median, speed, timed
from topics.pipeline.policy import Tolerances

Singles = NDArray[np.float32]
NOTHING = Losses(
    rows=10_000, max_delta=0, auc=0.9, auc_loss=0, average_precision=0.6, ap_loss=0, flips=0,
    moving_rows=0, compared_rows=500,
)  # fmt: skip
TOLERANCES = Tolerances(max_delta=0.05, max_flips=0.001, max_auc_loss=0.001, max_ap_loss=0.005)


def pace(low: float, overall: float, high: float) -> Speed:
    return Speed(us_per_row={1: 1.0}, ratio={1: overall}, overall=overall, low=low, high=high)


def test_a_variant_at_its_limits_is_eligible() -> None:
    changes = {"max_delta": 0.05, "flips": 10, "auc_loss": 0.001, "ap_loss": 0.005}
    assert breaches(NOTHING.model_copy(update=changes), TOLERANCES) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_delta": 0.051}, "|Δsignal| 0.051 > 0.05"),
        ({"flips": 11}, "11 decisions flip, 10 are allowed"),
        ({"auc_loss": 0.002}, "AUC ROC loses 0.002 > 0.001"),
        ({"ap_loss": 0.006}, "average precision loses 0.006 > 0.005"),
        ({"moving_rows": 1}, "the bits of 1 of 500 rows depend on their batch"),
    ],
)
def test_each_limit_rules_a_variant_out_and_says_so(changes: dict[str, Any], words: str) -> None:
    (found,) = breaches(NOTHING.model_copy(update=changes), TOLERANCES)
    assert found.startswith(words)


def test_what_depends_on_its_batch_is_ruled_out_whatever_is_tolerated() -> None:
    anything = Tolerances(max_delta=1, max_flips=1, max_auc_loss=1, max_ap_loss=1)
    assert breaches(NOTHING.model_copy(update={"moving_rows": 3}), anything)


@pytest.mark.parametrize(
    ("found", "noise", "faster", "words"),
    [
        (pace(0.48, 0.50, 0.52), 0.05, True, "2.00 × as fast as fp32"),
        (pace(0.88, 0.93, 0.96), 0.05, False, "no faster than fp32, within noise"),
        (pace(0.90, 0.95, 0.97), 0.01, True, "1.05 × as fast as fp32"),
        (pace(0.97, 0.98, 0.99), 0.0, False, "no faster than fp32, within noise"),
        (pace(1.2, 1.3, 1.4), 0.05, False, "slower than fp32: 1.30 × its time"),
    ],
)
def test_faster_means_faster_than_noise(
    found: Speed, noise: float, faster: bool, words: str
) -> None:
    assert is_faster(found, noise) is faster
    assert pace_in_words(found, noise) == words


def test_noise_is_how_far_fp32_seems_to_be_from_itself() -> None:
    assert noise_of(pace(0.97, 1.0, 1.01)) == pytest.approx(0.03)
    assert noise_of(pace(1.0, 1.02, 1.06)) == pytest.approx(0.06)


def row(name: str, overall: float, **changes: Any) -> Variant:
    fields = {"eligible": True, "faster": True, **changes}
    return Variant(name=name, speed=pace(overall, overall, overall), **fields)


def test_the_fastest_that_may_be_is_chosen() -> None:
    rows = [
        row("fp32", 1.0, faster=False),
        row("int8-dynamic", 0.2, eligible=False),
        row("int8-static", 0.3),
        row("pruned-25", 0.7),
        row("no-op", 0.1, no_op=True),
        row("slow", 0.05, faster=False),
        Variant(name="pruned-75", words=["does not apply"]),
    ]
    assert winner(rows) == "int8-static"
    assert winner([each for each in rows if each.name != "int8-static"]) == "pruned-25"
    assert winner(rows[:2]) == "fp32"


class Clock:
    """Time that passes only while something runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def run(self, seconds_a_row: float) -> Callable[[Singles], Singles]:
        def run(x: Singles) -> Singles:
            self.now += seconds_a_row * len(x)
            return x[:, 0]

        return run


def test_times_are_microseconds_a_row_and_ratios_to_the_same_round() -> None:
    clock = Clock()
    runs = {"fp32": clock.run(4e-6), "fast": clock.run(1e-6)}
    rows = np.zeros((10, 2), np.float32)
    timings = timed(runs, rows, [1, 64], clock=clock, seed=0, rounds=7)
    found = speed(timings, "fast", "fp32")
    assert found.us_per_row == {1: pytest.approx(1.0), 64: pytest.approx(1.0)}
    assert found.ratio == {1: pytest.approx(0.25), 64: pytest.approx(0.25)}
    assert (found.low, found.overall, found.high) == pytest.approx((0.25, 0.25, 0.25))


def test_the_interval_holds_the_median_that_often() -> None:
    rng = np.random.default_rng(2)
    tries = [interval_of_median(rng.exponential(size=31)) for _ in range(4000)]
    held = np.mean([low <= np.log(2) <= high for low, high in tries])
    assert 0.95 <= held < 0.99


def test_batch_sizes_are_in_order_and_named_once() -> None:
    assert Tolerances(batch=[256, 1, 256]).batch == [1, 256]
    with pytest.raises(ValidationError):
        Tolerances(batch=[0])
