"""Features are the same in training and in serving, and agree with the calendar."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.features.vector import FeatureVector
from topics.pipeline.fields import NEVER_MISSING, Feature, Transform

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CALENDAR: list[Transform] = ["hour", "day_of_week", "month", "night", "weekend"]


def computed(apply: Transform, column: NDArray[Any]) -> list[float]:
    feature = Feature(name="f", of="x", apply=apply)
    made = FeatureVector([feature]).compute({"x": column})
    assert made.dtype == np.float64
    assert made.shape == (len(column), 1)
    values: list[float] = made[:, 0].tolist()
    return values


def by_the_calendar(moment: datetime) -> dict[Transform, float]:
    return {
        "hour": float(moment.hour),
        "day_of_week": float(moment.weekday()),
        "month": float(moment.month),
        "night": float(moment.hour <= 6),
        "weekend": float(moment.weekday() >= 5),
    }


def assert_agrees(moments: list[datetime]) -> None:
    times = np.array([(moment - EPOCH) // timedelta(milliseconds=1) for moment in moments])
    for apply in CALENDAR:
        expected = [by_the_calendar(moment)[apply] for moment in moments]
        assert computed(apply, times) == expected, apply
        assert computed(apply, times.astype(np.float64)) == expected, apply


def test_every_day_of_a_century_is_that_of_the_calendar() -> None:
    first = datetime(1950, 1, 1, tzinfo=UTC)
    assert_agrees([first + timedelta(days=day, hours=day % 24) for day in range(36_525)])


@given(st.datetimes(timezones=st.just(UTC)))
@example(datetime(1900, 2, 28, 23, 59, 59, 999000, tzinfo=UTC))
@example(datetime(2000, 2, 29, tzinfo=UTC))
@example(datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC))
@example(datetime(2100, 3, 1, tzinfo=UTC))
@example(datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC))
@example(datetime(1970, 1, 1, tzinfo=UTC))
def test_any_moment_is_that_of_the_calendar(moment: datetime) -> None:
    assert_agrees([moment])


@pytest.mark.parametrize(("hour", "night"), [(0, 1.0), (6, 1.0), (7, 0.0), (12, 0.0), (23, 0.0)])
def test_night_is_from_0_to_before_7(hour: int, night: float) -> None:
    start = 1522540800000 + hour * 3_600_000
    assert computed("night", np.array([start, start + 3_599_999])) == [night, night]


def test_a_week_begins_on_monday_and_ends_with_its_weekend() -> None:
    monday = 1522627200000  # 2018-04-02
    week = monday + 86_400_000 * np.arange(7)
    assert computed("day_of_week", week) == [0, 1, 2, 3, 4, 5, 6]
    assert computed("weekend", week) == [0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    "apply", [name for name in get_args(Transform) if name not in NEVER_MISSING]
)
def test_a_missing_value_stays_nan(apply: Transform) -> None:
    values = computed(apply, np.array([0.0, np.nan, 1.0]))
    assert [math.isnan(value) for value in values] == [False, True, False]


def test_numbers_pass_as_they_are() -> None:
    assert computed("identity", np.array([1.5, -2.0, 0.0])) == [1.5, -2.0, 0.0]
    assert computed("identity", np.array([3, -(2**53)])) == [3.0, float(-(2**53))]
    assert computed("identity", np.array([True, False])) == [1.0, 0.0]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_log1p_is_that_of_the_value_and_0_below_0(value: float) -> None:
    (made,) = computed("log1p", np.array([value]))
    assert made == pytest.approx(math.log1p(max(value, 0)), rel=1e-15)
    assert math.isfinite(made)


@given(st.lists(st.sampled_from(["CZ", "SK", "DE", "", "cz"]), max_size=20))
def test_one_hot_has_one_column_per_category_in_order(countries: list[str]) -> None:
    vector = FeatureVector(
        [Feature(name="country", of="c", apply="one_hot", choices=["CZ", "SK", "AT"])]
    )
    assert vector.names == ["country=CZ", "country=SK", "country=AT"]
    columns = vector.compute({"c": np.array(countries, dtype=object)})
    assert columns.dtype == np.float64
    assert columns.shape == (len(countries), 3)
    for row, country in zip(columns.tolist(), countries, strict=True):
        assert row == [float(country == choice) for choice in ("CZ", "SK", "AT")]


@pytest.mark.parametrize(
    "apply", [name for name in get_args(Transform) if name not in NEVER_MISSING]
)
def test_a_missing_value_gets_what_the_pipeline_file_says(apply: Transform) -> None:
    vector = FeatureVector([Feature(name="f", of="x", apply=apply, missing=-7)])
    columns = vector.compute({"x": np.array([0.0, np.nan])})
    assert columns[0, 0] != -7
    assert columns[1, 0] == -7


def test_missing_is_1_where_the_field_is_missing() -> None:
    vector = FeatureVector([Feature(name="gone", of="x", apply="missing")])
    assert vector.compute({"x": np.array([0.0, np.nan])}).tolist() == [[0], [1]]
    assert vector.compute({"x": np.array(["", "CZ"], dtype=object)}).tolist() == [[1], [0]]
    assert vector.compute({"x": np.array([3, 4])}).tolist() == [[0], [0]]


def test_ordinal_counts_the_choices_and_gives_any_other_value_minus_1() -> None:
    sizes = Feature(name="size", of="s", apply="ordinal", choices=["small", "medium", "large"])
    vector = FeatureVector([sizes])
    column = np.array(["large", "small", "", "huge", "medium"], dtype=object)
    assert vector.names == ["size"]
    assert vector.compute({"s": column}).tolist() == [[2], [0], [-1], [-1], [1]]


def test_features_stand_side_by_side_in_the_order_of_the_file() -> None:
    vector = FeatureVector(
        [
            Feature(name="hour", of="at", apply="hour"),
            Feature(name="country", of="c", apply="one_hot", choices=["CZ", "SK"]),
            Feature(name="amount", of="amount"),
        ]
    )
    columns: dict[str, NDArray[Any]] = {
        "amount": np.array([2.0, 3.0]),
        "c": np.array(["SK", "CZ"], dtype=object),
        "at": np.array([3_600_000, 7_200_000]),
    }
    assert vector.names == ["hour", "country=CZ", "country=SK", "amount"]
    assert vector.compute(columns).tolist() == [[1, 0, 1, 2], [2, 1, 0, 3]]


def test_no_rows_are_as_wide_as_any() -> None:
    vector = FeatureVector(
        [
            Feature(name="amount", of="amount", apply="log1p"),
            Feature(name="country", of="c", apply="one_hot", choices=["CZ", "SK"]),
        ]
    )
    columns = vector.compute({"amount": np.zeros(0), "c": np.zeros(0, dtype=object)})
    assert columns.shape == (0, 3)


def test_the_columns_are_not_changed() -> None:
    column = np.array([1.0, 2.0])
    FeatureVector([Feature(name="x", of="x")]).compute({"x": column})[:] = 9
    assert column.tolist() == [1.0, 2.0]


@given(st.lists(st.integers(-(2**45), 2**45), min_size=1, max_size=40))
def test_a_row_is_the_same_in_any_batch(times: list[int]) -> None:
    column = np.array(times)
    vector = FeatureVector(
        [
            *(Feature(name=apply, of="x", apply=apply) for apply in CALENDAR),
            Feature(name="size", of="x", apply="log1p"),
        ]
    )
    whole = vector.compute({"x": column})
    for row in range(len(times)):
        alone = vector.compute({"x": column[row : row + 1]})
        assert alone.tobytes() == whole[row : row + 1].tobytes()
