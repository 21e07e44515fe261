"""Drift: effect sizes by SciPy's formulas, counts that add up, findings that say what was done."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, wasserstein_distance

from models.arrays import Floats64, Ints
from models.drift.binning import ABOVE, BELOW, FIRST, MISSING, CategoryBins, NumberBins
from models.drift.detector import DriftDetector
from models.drift.effect_sizes import jensen_shannon, psi, shares, wasserstein
from models.drift.finding import Finding
from models.drift.hour_counts import HOUR_MS, HourCounts, slots_of
from models.drift.ordinary import Ordinary
from models.drift.reference import Reference
from models.drift.together import Together

HOUR_ROWS = 60
START = 1_700_006_400_000  # midnight of 2023-11-15, in UTC
COUNTS = arrays(np.int64, 12, elements=st.integers(0, 10_000))


@given(COUNTS, COUNTS)
def test_effect_sizes_are_those_of_scipy(one: Ints, other: Ints) -> None:
    p, q = shares(one), shares(other)
    assert psi(q, p) == pytest.approx(entropy(q, p) + entropy(p, q), abs=1e-12)
    assert jensen_shannon(q, p) == pytest.approx(jensenshannon(q, p, 2), abs=1e-7)
    centres = np.cumsum(np.arange(1.0, 13.0))
    expected = wasserstein_distance(centres, centres, q, p)
    assert wasserstein(q, p, centres) == pytest.approx(expected, abs=1e-9)


def test_the_index_of_two_normal_distributions_is_that_of_the_formula() -> None:
    """Jeffreys' divergence of N(0, 1) and N(d, 1) is d²; tenths of a sample lose little of it."""
    rng = np.random.default_rng(3)
    bins = NumberBins.of(rng.normal(size=200_000))
    before = np.bincount(bins.places(rng.normal(size=200_000)), minlength=16)
    now = np.bincount(bins.places(rng.normal(0.5, 1, 200_000)), minlength=16)
    assert 0.9 * 0.25 < psi(shares(now), shares(before)) < 1.02 * 0.25


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=80))
def test_every_number_of_the_reference_has_a_place_inside(values: list[float]) -> None:
    places = NumberBins.of(np.array(values)).places(np.array(values))
    assert places.min() >= FIRST
    assert places.max() < ABOVE


def test_what_is_odd_has_places_of_its_own() -> None:
    numbers = NumberBins.of(np.arange(100.0))
    assert numbers.places(np.array([np.nan, -1e9, 1e9, np.inf])).tolist() == [
        MISSING, BELOW, ABOVE, ABOVE,
    ]  # fmt: skip
    words = CategoryBins.of(np.array(["a", "b", ""], object))
    assert words.places(np.array(["", "new", "a"], object)).tolist() == [MISSING, BELOW, FIRST]


def test_counts_of_two_parts_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    bins, values = NumberBins.of(np.arange(50.0)), rng.uniform(0, 50, 400)
    hours, decided = rng.integers(100, 110, 400), rng.integers(0, 3, 400)

    def counted(rows: slice) -> HourCounts:
        places, numbers = [bins.places(values[rows])], [bins.within(values[rows])]
        return HourCounts.of_rows(hours[rows], places, numbers, decided[rows], 3)

    whole = counted(slice(0, 400))
    parts = counted(slice(0, 150)).added(counted(slice(150, 400)))
    assert (whole.counts == parts.counts).all()
    assert whole.sums == pytest.approx(parts.sums)
    assert whole.counts.sum() == 400


def test_slots_are_the_hours_of_working_days_and_of_weekends() -> None:
    saturday = np.datetime64("2026-01-03T05:00", "h").astype(np.int64)
    assert slots_of(np.array([saturday, saturday + 48])).tolist() == [29, 5]


def normal_days(
    seed: int, days: int, *, first_day: int = 0, mean: float = 0.0, deviation: float = 1.0
) -> tuple[Ints, Floats64]:
    """Times and values of rows that are normal, with an hour of the day in their mean."""
    rng = np.random.default_rng(seed)
    hours = np.repeat(np.arange(days * 24) + first_day * 24, HOUR_ROWS)
    daily = np.sin(hours / 24 * 2 * np.pi)
    return START + hours * HOUR_MS, daily + rng.normal(mean, deviation, len(hours))


def reference(days: int = 28) -> Reference:
    times, values = normal_days(0, days)
    words = np.where(values > 0, "high", "low").astype(object)
    return Reference.of_columns("event", {"x": values, "word": words}, times)


def found_in(
    detector: DriftDetector, times: Ints, values: Floats64, words: object = None
) -> list[Finding]:
    given_words = np.where(values > 0, "high", "low").astype(object) if words is None else words
    decisions = np.where(values > 1.5, "stop", "run").tolist()
    found = []
    for hour in np.unique(times):
        rows = times == hour
        columns = {"x": values[rows], "word": np.asarray(given_words, object)[rows]}
        detector.add("event", columns, times[rows], np.asarray(decisions)[rows].tolist())
        found += detector.close(int(hour) + HOUR_MS)
    return found


def test_days_like_the_reference_are_no_drift() -> None:
    detector = DriftDetector(reference(), ["run", "stop"])
    assert found_in(detector, *normal_days(1, 30, first_day=28)) == []


def test_a_mean_that_moves_is_found_with_its_time_and_what_it_decides_and_ends() -> None:
    detector = DriftDetector(reference(), ["run", "stop"])
    found_in(detector, *normal_days(1, 5, first_day=28))
    found = found_in(detector, *normal_days(2, 4, first_day=33, mean=0.8))
    first = next(each for each in found if each.series == "x")
    began = START + 33 * 24 * HOUR_MS
    assert abs(first.since_ms - began) <= 3 * HOUR_MS
    assert first.all_now["stop"] > first.all_before["stop"] + 0.05
    assert f"{first.all_before['stop']:.1%} to {first.all_now['stop']:.1%}" in first.sentence
    assert "x has moved, mean" in first.sentence
    assert detector.going_on
    ended = found_in(detector, *normal_days(3, 6, first_day=37))
    assert [each.series for each in ended if each.ended and each.series == "x"] == ["x"]
    assert not detector.going_on


def test_a_small_shift_that_no_window_shows_is_a_change_point() -> None:
    detector = DriftDetector(reference(), [])
    found_in(detector, *normal_days(1, 10, first_day=28))
    found = found_in(detector, *normal_days(2, 12, first_day=38, mean=0.2))
    assert [each.kind for each in found if each.series == "x"] == ["mean"]


def test_missing_values_and_words_that_were_never_there_are_found() -> None:
    detector = DriftDetector(reference(), [])
    times, values = normal_days(1, 3, first_day=28)
    words = np.where(values > 0, "high", "low").astype(object)
    rng = np.random.default_rng(9)
    values[rng.random(len(values)) < 0.03] = np.nan
    words[rng.random(len(values)) < 0.03] = "other"
    found = {each.series: each for each in found_in(detector, times, values, words)}
    assert found["x"].kind == "missing"
    assert "is missing in" in found["x"].sentence
    assert found["word"].kind == "outside"
    assert found["word"].odd_before == pytest.approx(0, abs=1e-3)


def test_fields_that_no_longer_go_together_are_found_though_each_is_as_ever() -> None:
    rng = np.random.default_rng(5)
    times, values = normal_days(0, 28)
    columns = {"a": values, "b": values + rng.normal(0, 0.2, len(values))}
    detector = DriftDetector(Reference.of_columns("event", columns, times, "pair"), [])
    later, fresh = normal_days(4, 3, first_day=28)
    found = []
    for hour in np.unique(later):
        rows = later == hour
        other = rng.permutation(fresh[rows]) + rng.normal(0, 0.2, int(rows.sum()))
        apart = {"a": fresh[rows], "b": other}
        detector.add("event", apart, later[rows])
        found += detector.close(int(hour) + HOUR_MS)
    assert {each.series for each in found} == {"pair together"}


def test_a_row_as_the_reference_has_them_is_near_and_one_that_breaks_the_rule_is_far() -> None:
    rng = np.random.default_rng(5)
    base = rng.normal(size=5000)
    columns = {"a": base, "b": base + rng.normal(0, 0.1, 5000)}
    together = Together.of(columns)
    assert together is not None
    near, far = together.distances({"a": np.array([2.0, 2.0]), "b": np.array([2.0, -2.0])})
    assert far > 3 * near


def test_a_reference_of_few_days_is_completed_in_service_before_it_judges() -> None:
    detector = DriftDetector(reference(days=3), [])
    assert detector.learning == {"x": 11, "word": 11}
    assert found_in(detector, *normal_days(1, 12, first_day=3)) == []
    assert detector.learning == {}
    found = found_in(detector, *normal_days(2, 3, first_day=15, mean=1.0))
    assert "x" in {each.series for each in found}


def test_a_detector_that_is_restored_finds_what_it_would_have_found() -> None:
    one = DriftDetector(reference(), ["run", "stop"])
    found_in(one, *normal_days(1, 4, first_day=28))
    other = DriftDetector.from_bytes(one.to_bytes())
    rest = normal_days(2, 3, first_day=32, mean=0.5)
    assert found_in(one, *rest) == found_in(other, *rest) != []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY"])
def test_bytes_that_are_no_state_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="no state of drift"):
        DriftDetector.from_bytes(content)
    with pytest.raises(ValueError, match="no reference of drift"):
        Reference.from_bytes(content)


def test_a_reference_says_the_same_when_it_is_read_again() -> None:
    written = reference().to_bytes()
    again = Reference.from_bytes(written)
    assert again.to_bytes() == written
    assert [each.name for each in again.series] == ["x", "word"]


def test_identifiers_and_vectors_are_not_watched() -> None:
    times = START + np.arange(100) * HOUR_MS
    columns = {
        "customer": np.array([f"c-{row}" for row in range(100)], object),
        "vector": np.zeros((100, 3)),
        "empty": np.full(100, np.nan),
        "flag": times % 2 == 0,
    }
    assert [each.name for each in Reference.of_columns("event", columns, times).series] == ["flag"]


def test_rows_of_hours_that_are_closed_are_counted_and_left_out() -> None:
    detector = DriftDetector(reference(), [])
    times, values = normal_days(1, 2, first_day=28)
    found_in(detector, times, values)
    detector.add("event", {"x": values[:10]}, times[:10])
    assert detector.late_rows == 10


def test_more_series_share_the_alarms_so_each_limit_is_higher() -> None:
    few, many = Ordinary.of(reference(), 1.0), Ordinary.of(reference(), 0.01)
    rows = np.full(2, 300)
    assert (many.psi_limit_of(rows) > few.psi_limit_of(rows)).any()


@pytest.mark.parametrize("constant", [0.1, 0.0, -7.3e9])
def test_a_field_that_is_always_the_same_has_no_part_in_what_fields_are_together(
    constant: float,
) -> None:
    rng = np.random.default_rng(1)
    columns = {"a": rng.normal(size=997), "b": rng.normal(size=997), "c": np.full(997, constant)}
    columns["missing"] = np.full(997, np.nan)
    columns["c"][3] = np.nan
    together = Together.of(columns)
    assert together is not None
    assert together.fields == ["a", "b"]
