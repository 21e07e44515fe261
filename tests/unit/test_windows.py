"""Windowed features as a pipeline file declares them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.features.windows import WindowPlan, Windows, over_all_rows
from topics.events.event_decoder import EventDecoder
from topics.pipeline.fields import Feature
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import Topology
from topics.records.outcome import outcome_fields, outcome_of, outcome_schema

DAY_MS = 86_400_000


def pipeline_with(features: list[dict[str, Any]], key: str | None = None) -> Pipeline:
    content = load_pipeline(find_pipeline("card-fraud")).pipeline.model_dump(
        by_alias=True, exclude_unset=True
    )
    content["components"][0] |= {"features": features} | ({"key": key} if key else {})
    return Pipeline.model_validate(content)


PIPELINE = pipeline_with(
    [
        {"name": "count", "apply": "count", "over": ["1d", "7d"]},
        {"name": "mean", "apply": "mean", "of": "amount", "over": ["1d"]},
        {"name": "terminals", "apply": "distinct", "of": "terminal_id", "over": ["7d"]},
        {"name": "last", "apply": "since_last", "over": ["7d"]},
        {"name": "known", "apply": "count", "of": "outcomes", "over": ["7d"]},
        {"name": "risk", "apply": "share", "of": "outcomes", "over": ["7d"]},
    ]
)


def columns_of(rows: list[tuple[float, str, str, float]]) -> dict[str, Any]:
    days, customers, terminals, amounts = zip(*rows, strict=True)
    return {
        "occurred_at": (np.array(days) * DAY_MS).astype(np.int64),
        "customer_id": np.array(customers, object),
        "terminal_id": np.array(terminals, object),
        "amount": np.array(amounts),
    }


ROWS = [
    (0.0, "a", "t", 10.0),
    (0.5, "a", "u", 30.0),
    (1.0, "b", "t", 5.0),
    (1.2, "a", "t", 50.0),
    (9.0, "a", "u", 70.0),
]


def test_each_event_sees_itself_and_what_was_before_it_in_its_windows() -> None:
    labels = np.array([True, False, False, True, False])
    made = over_all_rows(PIPELINE, "features", columns_of(ROWS), labels)
    assert made["count_1d"].tolist() == [1, 2, 1, 2, 1]
    assert made["count_7d"].tolist() == [1, 2, 1, 3, 1]
    assert made["mean_1d"].tolist() == [10, 20, 5, 40, 70]
    assert made["terminals_7d"].tolist() == [1, 2, 1, 2, 1]
    week = 7 * 86_400
    assert made["last_7d"] == pytest.approx([week, 43_200, week, 0.7 * 86_400, week])
    assert made["known_7d"].tolist() == [0, 0, 0, 0, 3], "outcomes are known seven days late"
    assert made["risk_7d"].tolist() == pytest.approx([0, 0, 0, 0, 2 / 3])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_batches_and_early_outcomes_make_no_difference(cuts: list[int]) -> None:
    labels = np.array([True, False, False, True, False])
    columns = columns_of(ROWS)
    plan = WindowPlan(PIPELINE, "features")
    windows = Windows(plan)
    entities, values = plan.entities(columns), plan.values(columns)
    times, orders = columns["occurred_at"], np.arange(len(ROWS))
    windows.learn(entities, times, orders, labels)
    found = []
    edges = sorted({0, len(ROWS), *(min(cut, len(ROWS)) for cut in cuts)})
    for start, stop in pairwise(edges):
        rows = slice(start, stop)
        features = windows.observe(entities[rows], times[rows], orders[rows], values[rows])
        found.append(np.stack([features[name] for name in plan.columns], axis=1))
    whole = over_all_rows(PIPELINE, "features", columns, labels)
    assert np.concatenate(found).tobytes() == np.stack(list(whole.values()), axis=1).tobytes()


def test_columns_are_named_after_feature_and_window() -> None:
    feature = Feature(name="count", apply="count", over=["1d", "7d"])
    assert feature.columns == ["count_1d", "count_7d"]


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ({"apply": "count"}, "over"),
        ({"of": "amount", "over": ["1d"]}, "over"),
        ({"apply": "count", "of": "amount", "over": ["1d"]}, "not of a field"),
        ({"apply": "mean", "over": ["1d"]}, "needs of: an event field"),
        ({"apply": "mean", "of": "outcomes", "over": ["1d"]}, "count and share"),
        ({"apply": "share", "of": "amount", "over": ["1d"]}, "share of positive outcomes"),
        ({"apply": "count", "over": ["24h", "1d"]}, "twice"),
        ({"apply": "count", "over": ["1 day"]}, "pattern"),
        ({"apply": "count", "over": ["1d"], "missing": 0}, "missing"),
    ],
)
def test_a_feature_that_makes_no_sense_is_refused(feature: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Feature.model_validate({"name": "x", **feature})


def test_a_component_of_another_key_or_of_outcomes_is_repartitioned() -> None:
    of_events = [{"name": "n", "apply": "count", "over": ["1d"]}]
    assert not pipeline_with(of_events).is_repartitioned("features")
    assert pipeline_with(of_events, key="terminal_id").is_repartitioned("features")
    assert PIPELINE.is_repartitioned("features")
    topics = Topology.of(PIPELINE).all
    assert {"card-fraud.outcomes", "card-fraud.features.keyed", "card-fraud.features.state"} <= {
        *topics
    }


def test_an_outcome_repeats_what_windows_are_keyed_by_and_is_validated_like_an_event() -> None:
    pipeline = load_pipeline(find_pipeline("card-fraud")).pipeline
    event = {
        "transaction_id": "tx-1", "occurred_at": "2018-04-01T00:00:00Z", "customer_id": "c",
        "terminal_id": "t", "amount": 5.0,
    }  # fmt: skip
    outcome = outcome_of(outcome_fields(pipeline), event, label=True)
    assert outcome == {name: event[name] for name in event if name != "amount"} | {"outcome": True}
    decoder = EventDecoder(outcome_schema(pipeline))
    assert decoder.event(json.dumps(outcome).encode())["outcome"] is True
    del outcome["terminal_id"]
    with pytest.raises(ValueError, match="terminal_id"):
        decoder.event(json.dumps(outcome).encode())


def counted(windows: Windows, seconds: list[float], customer: str = "a") -> list[float]:
    """What events at these times count in a day, one after the other."""
    found = []
    for number, second in enumerate(seconds):
        values = np.full((1, len(windows.plan.fields)), 1.0)
        at = np.array([int(second * 1000)])
        features = windows.observe([customer], at, np.array([number + int(at[0]) * 1000]), values)
        found.append(float(features["count_1d"][0]))
    return found


def test_an_event_as_far_ahead_as_it_may_be_makes_no_other_late() -> None:
    windows = Windows(WindowPlan(PIPELINE, "features"))
    assert counted(windows, [0.0, 1.0]) == [1, 2]
    ahead = 3600 + 300  # a producer's clock an hour ahead of ours, and the event `future` of that
    assert counted(windows, [float(ahead)]) == [3]
    assert counted(windows, [2.0, 3.0, 1800.0, ahead + 3600.0]) == [3, 4, 5, 7]
    assert windows.histories["events"].too_late == 0
    assert counted(windows, [float(ahead) + 1]) == [7], (
        "an hour behind the newest, as `lateness` says"
    )


def test_what_is_dated_after_a_time_can_be_dropped() -> None:
    windows = Windows(WindowPlan(PIPELINE, "features"))
    assert counted(windows, [0.0, 1.0, 4e9, 2.0]) == [1, 2, 1, 0]
    windows.disbelieve(10_000)
    assert counted(windows, [3.0, 4.0]) == [3, 4]
