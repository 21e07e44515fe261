"""Exploration: who is explored, how often, and what decisions say of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from agents.join.stage_rows import union
from agents.weigh.decision_records import DecisionWriter, Weights
from agents.weigh.exploration import ExploredRows, Explorer, FieldsNotSent, check_fields_sent
from tests.unit.stage_batches import batch_of, rows_of
from tests.unit.test_decisions import ALPHA, NOW_MS, PIPELINE, joined_of, stage, weighed_of
from topics.pipeline.checks import check_graph
from topics.pipeline.policy import Explore, Policy
from topics.pipeline.schema import Pipeline
from topics.records.decision import Decision
from topics.records.stage_batch import Rows
from topics.records.wire import Codec, decode, encode

NAMES = ["approve", "review", "decline"]
DECLINED = 2


def explore_of(**changes: Any) -> Explore:
    return Explore.model_validate({"of": ["decline"], "as": "approve", "share": 0.1, **changes})


def pipeline_exploring(**changes: Any) -> Pipeline:
    policy = PIPELINE.policy.model_copy(update={"explore": explore_of(**changes)})
    return PIPELINE.model_copy(update={"policy": policy})


def explored(rows: Rows, *, partition: int = 0, **changes: Any) -> ExploredRows:
    """All *rows* are declined."""
    explorer = Explorer(explore_of(**changes), "p", "p.events", NAMES)
    n = len(rows)
    return explorer.explore(partition, rows, np.full(n, DECLINED), np.ones(n, np.bool_))


def many(n: int, start: int = 0) -> Rows:
    return rows_of(range(start, start + n))


def test_who_is_explored_follows_from_a_keyed_hash_of_the_coordinates_as_anybody_computes_it() -> (
    None
):
    made = explored(many(2_000, 500), partition=3, key="k", share=0.05).explored
    expected = [
        int.from_bytes(
            blake2b(f"p.events/3/{offset}".encode(), digest_size=8, key=b"k").digest(), "big"
        )
        < 0.05 * 2**64
        for offset in range(500, 2_500)
    ]
    assert made.tolist() == expected
    by_name = explored(many(2_000), share=0.05).explored
    assert np.array_equal(by_name, explored(many(2_000), share=0.05, key="p").explored)


def test_a_rows_exploration_does_not_depend_on_its_batch() -> None:
    whole = explored(many(300)).explored
    parts = [explored(many(100, start)).explored for start in (0, 100, 200)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole, explored(many(300), partition=1).explored)


@pytest.mark.parametrize("share", [0.005, 0.1, 0.5])
def test_the_share_holds_in_every_partition_and_neighbours_know_nothing_of_each_other(
    share: float,
) -> None:
    """Within 4.5 standard errors; offsets are as they come: one after the other."""
    n = 40_000
    for partition in range(8):
        chosen = explored(many(n), partition=partition, share=share).explored
        assert abs(chosen.mean() - share) < 4.5 * np.sqrt(share * (1 - share) / n)
        both = (chosen[1:] & chosen[:-1]).mean()
        assert abs(both - share**2) < 4.5 * np.sqrt(share**2 / n)
    other = explored(many(n), partition=1, share=share).explored
    alike = (chosen & other).mean()
    assert abs(alike - share**2) < 4.5 * np.sqrt(share**2 / n)


def test_a_larger_share_explores_the_same_events_and_more() -> None:
    small, large = (explored(many(5_000), share=share).explored for share in (0.05, 0.2))
    assert (small <= large).all()


def test_other_decisions_and_late_rows_are_left_alone() -> None:
    explorer = Explorer(explore_of(share=0.999), "p", "p.events", NAMES)
    by_policy = np.array([0, 1, 2, 2])
    result = explorer.explore(0, many(4), by_policy, np.array([True, True, True, False]))
    assert result.explorable.tolist() == [False, False, True, False]
    assert result.decided.tolist() == [0, 1, 0, 2]


def test_only_values_up_to_the_largest_are_explored_and_none_that_is_not_known() -> None:
    rows = replace(many(4), fields={"amount": np.array([49.0, 50.0, 50.01, np.nan])})
    assert explored(rows, up_to={"amount": 50}).explorable.tolist() == [True, True, False, False]
    assert not explored(many(4), up_to={"amount": 50}).explorable.any(), "the field was not sent"
    assert not explored(rows, up_to={"amount": 50, "other": 1}).explorable.any()


def test_outcomes_weighed_by_propensity_are_those_of_all() -> None:
    """Horvitz-Thompson: 60,000 declined events, of which only what was explored has an outcome."""
    n, share = 60_000, 0.05
    true = np.arange(n) % 10 < 3
    said = explored(many(n), share=share).said(NAMES)
    known = [row for row in range(n) if said[row].get("explored")]
    estimate = sum(true[row] / said[row]["propensity"] for row in known) / n
    assert abs(estimate - 0.3) < 4.5 * np.sqrt(0.3 * (1 - share) / share / n)


def decisions_of(pipeline: Pipeline, n: int = 400, score: float = 0.9) -> list[dict[str, Any]]:
    joined = joined_of({"a": stage("a", [score] * n), "b": stage("b", [score] * n)})
    writer = DecisionWriter(pipeline, Weights(ALPHA, 4))
    records = writer.records(2, joined, np.arange(n), weighed_of(joined), NOW_MS)
    return [json.loads(record.value or b"") for record in records]


def test_a_record_says_what_was_taken_instead_of_what_and_how_likely_that_was() -> None:
    records = decisions_of(pipeline_exploring())
    taken = Counter(
        (each["decision"], each.get("explored"), each.get("instead_of"), each["propensity"])
        for each in records
    )
    assert set(taken) == {("approve", True, "decline", 0.1), ("decline", None, None, 0.9)}
    for each in records:
        decision = Decision.model_validate(each)
        assert decision.by_policy == "decline"
        assert decision.explored == (decision.decision == "approve")
        assert 0.85 < (decision.score or 0) < 0.95, "the score is what it is"


def test_what_exploration_does_not_apply_to_says_nothing_of_it() -> None:
    usual = decisions_of(PIPELINE, score=0.3)
    assert decisions_of(pipeline_exploring(), score=0.3) == usual
    assert not {"explored", "instead_of", "propensity"} & {*usual[0]}


def test_decisions_are_counted_as_taken_and_explorations_beside_them() -> None:
    pipeline, n = pipeline_exploring(), 1_000
    writer = DecisionWriter(pipeline, Weights(ALPHA, 4))
    scores = np.where(np.arange(n) % 2, 0.9, 0.1)
    taken = writer.taken(2, many(n), scores)
    rows = np.arange(n)
    counts, kinds = taken.explorations(rows), taken.kinds(rows)
    assert sum(counts.values()) == n // 2
    approved = counts["decline", "explored"]
    assert set(counts) == {("decline", "explored"), ("decline", "kept")}
    assert 25 < approved < 80
    assert kinds == {
        ("approve", "score"): n // 2 + approved, ("review", "score"): 0,
        ("decline", "score"): n // 2 - approved,
    }  # fmt: skip
    assert Counter(taken.decision(row) for row in rows.tolist()) == {
        name: count for (name, _), count in kinds.items() if count
    }


@pytest.mark.parametrize("codec", ["binary", "json"])
def test_fields_travel_with_their_rows(codec: Codec) -> None:
    batch = batch_of("risk", [1, 5, 9])
    value, headers = encode(batch, codec)
    assert not decode(value, dict(headers)).rows.fields, "nothing of it in older batches"
    amounts = np.array([12.5, np.nan, 1e300])
    batch = replace(batch, rows=replace(batch.rows, fields={"amount": amounts}))
    value, headers = encode(batch, codec)
    again = decode(value, dict(headers)).rows
    assert np.array_equal(again.fields["amount"], amounts, equal_nan=True)
    joined = Rows.concat([again[1:], batch_of("risk", [20]).rows]).picked(np.array([1, 2]))
    assert np.array_equal(joined.fields["amount"], [1e300, np.nan], equal_nan=True)


def test_a_join_has_the_fields_that_any_stage_has_sent() -> None:
    """While workers of the file before and of the one with `explore:` run side by side."""
    new = replace(rows_of([1, 2, 5]), fields={"amount": np.array([1.0, 2.0, np.nan])})
    old, few = rows_of([1, 2, 3, 5]), replace(rows_of([3]), fields={"amount": np.array([3.0])})
    for candidates in ([[old], [new, few]], [[new, few], [old]]):
        rows = union(candidates)
        assert rows.offsets.tolist() == [1, 2, 3, 5]
        assert np.array_equal(rows.fields["amount"], [1, 2, 3, np.nan], equal_nan=True)
    assert not union([[old], [rows_of([2])]]).fields


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"of": ["stop"]}, "'stop' is none of the decisions approve, review, decline"),
        ({"as": "decline"}, "'decline' is explored as itself"),
        ({"share": 0}, "greater than 0"),
        ({"share": 1}, "less than 1"),
        ({"of": []}, "at least 1 item"),
        ({"up_to": {"amount": float("nan")}}, "finite"),
    ],
)
def test_a_policy_that_explores_what_there_is_not_is_refused(
    change: dict[str, Any], message: str
) -> None:
    explore = {"of": ["decline"], "as": "approve", "share": 0.1, **change}
    with pytest.raises(ValidationError, match=message):
        Policy.model_validate({
            "thresholds": {"review": 0.25, "decline": 0.5}, "explore": explore
        })  # fmt: skip


@pytest.mark.parametrize(
    ("field", "message"),
    [("amount", "not one of the event's fields"), ("id", "is a string: only a number")],
)
def test_up_to_names_numbers_of_the_event(field: str, message: str) -> None:
    findings = check_graph(pipeline_exploring(up_to={field: 50}), None)
    assert [(each.location, message in each.message) for each in findings] == [
        (("policy", "explore", "up_to", field), True)
    ]


def test_a_policy_without_exploration_has_the_bytes_that_it_had() -> None:
    """Decisions name its digest."""
    policy = Policy(thresholds={"decline": 0.5})
    assert policy.content == b'{"version":1,"otherwise":"approve","thresholds":{"decline":0.5}}'
    exploring = pipeline_exploring(up_to={"amount": 50}).policy
    assert Policy.model_validate_json(exploring.content) == exploring


def test_a_policy_whose_fields_do_not_travel_is_not_put_into_service() -> None:
    sent = pipeline_exploring(up_to={"amount": 50})
    check_fields_sent(sent, pipeline_exploring(up_to={"amount": 10}).policy)
    check_fields_sent(PIPELINE, pipeline_exploring().policy)
    with pytest.raises(FieldsNotSent, match="up to a value of amount"):
        check_fields_sent(PIPELINE, sent.policy)
