"""What would have been decided, on decisions small enough to compute by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.replay.altered_decisions import NO_QUORUM, AlteredRule, RecordedRules, StageSignals
from agents.replay.decision_columns import (
    ColumnsBuilder,
    DecisionColumns,
    PolicyRef,
    decision_fields,
)
from agents.replay.decision_reader import FieldValues
from agents.replay.errors import NotAField, OtherStages, PolicyDiffers, PolicyUnknown, WeightsDiffer
from agents.replay.segments import check_field, segments_of
from agents.replay.what_if_examples import ExampleMaker
from agents.replay.what_if_figures import FigureMaker, Outcomes
from agents.replay.what_if_report import counts_of
from agents.weigh.decision_records import Weights
from models.report.selective_labels import outcome_weights
from tests.unit.test_decisions import (
    ALPHA,
    PIPELINE,
    joined_of,
    parsed,
    pipeline_with,
    records_of,
    stage,
)
from topics.pipeline.policy import DecisionCost, Explore, Policy
from topics.records.decision import Decision

POLICY = PIPELINE.policy
FIXED = RecordedRules(lambda _: Weights(ALPHA, 4), lambda _: POLICY)


def decisions(a: list[float | None], b: list[float | None]) -> list[Decision]:
    """Recorded decisions with these signals of the stages a and b."""
    return [
        parsed(record) for record in records_of(joined_of({"a": stage("a", a), "b": stage("b", b)}))
    ]


def columns_of(stages: list[str], recorded: Iterable[tuple[Decision, int]]) -> DecisionColumns:
    """The columns of decisions, each with its attempt."""
    builder = ColumnsBuilder(stages)
    for decision, attempt in recorded:
        value = decision.model_dump_json(by_alias=True).encode()
        builder.add(decision_fields(value), attempt)
    return builder.columns()


def recorded(a: list[float | None], b: list[float | None]) -> DecisionColumns:
    return columns_of(list(ALPHA), [(each, 1) for each in decisions(a, b)])


def named(rule: AlteredRule, rows: DecisionColumns) -> list[tuple[str, str]]:
    altered = rule.decide(rows)
    pairs = zip(altered.before.tolist(), altered.after.tolist(), strict=True)
    return [(altered.names[before], altered.names[after]) for before, after in pairs]


def test_columns_hold_what_decisions_say() -> None:
    rows = recorded([0.5, None, 1.0], [0.25, 0.5, None])
    assert rows.scores.tolist() == [0.3125, 0.5, 1.0]
    assert rows.signals.tolist() == [[0.5, 0.25], [0, 0.5], [1.0, 0]]
    assert rows.present.tolist() == [[True, True], [False, True], [True, False]]
    assert [rows.names[at] for at in rows.decided] == ["review", "decline", "decline"]
    assert (rows.weights.tolist(), rows.policy.tolist()) == ([4] * 3, [0] * 3)
    assert rows.policies == [PolicyRef("p@3", None)]
    assert [rows.source("p.events", row).offset for row in range(3)] == [10, 11, 12]
    assert set(rows.partitions) == {2}
    assert not rows.redriven.any()


@pytest.mark.parametrize(
    "changes",
    [
        {"score": 1.5}, {"score": "high"}, {"weights": 2**40}, {"decided_by": "chance"},
        {"source": {"topic": "p.events", "partition": -1, "offset": 0}},
        {"contributions": {"a": {"signal": -0.1}}}, {"event_id": None}, {"score": None},
        {"decided_by": "late"},
    ],
)  # fmt: skip
def test_what_is_no_decision_is_refused(changes: dict[str, object]) -> None:
    (decision,) = decisions([0.5], [0.25])
    value = orjson.dumps(decision.model_dump(by_alias=True) | changes)
    with pytest.raises(ValueError, match=r"."):
        ColumnsBuilder(list(ALPHA)).add(decision_fields(value), 1)


def test_a_decision_of_other_stages_is_refused_by_its_coordinates() -> None:
    with pytest.raises(OtherStages, match=r"p\.events/2/10 weighs a, b, the pipeline file a:"):
        columns_of(["a"], [(decisions([0.5], [0.5])[0], 1)])


def test_another_policy_takes_the_recorded_scores() -> None:
    rows = recorded([0.5, 0.0, 1.0], [0.25, 0.0, 1.0])  # scores 0.3125, 0, 1
    stricter = Policy(version=9, thresholds={"review": 0.1, "decline": 0.3125})
    assert named(AlteredRule(PIPELINE, FIXED, policy=stricter), rows) == [
        ("review", "decline"), ("approve", "approve"), ("decline", "decline"),
    ]  # fmt: skip


def test_other_weights_weigh_the_recorded_signals_and_what_is_missing_is_missing() -> None:
    rows = recorded([0.5, None], [0.25, 0.125])
    rule = AlteredRule(PIPELINE, FIXED, weights=Weights({"a": 1.0, "b": 0.0}, 5))
    altered = rule.decide(rows)
    assert altered.scores_after[0] == 0.5
    # Only b is there, which has no weight: that is no quorum, and no decision.
    assert math.isnan(altered.scores_after[1])
    assert named(rule, rows) == [("review", "decline"), ("approve", NO_QUORUM)]
    assert altered.decided.tolist() == [True, False]


@given(
    st.lists(
        st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.integers(0, 2)),
        min_size=1, max_size=20,
    )
)  # fmt: skip
def test_the_same_weights_give_the_same_bits(signals: list[tuple[float, float, int]]) -> None:
    rows = recorded(
        [None if missing == 1 else a for a, _, missing in signals],
        [None if missing == 2 else b for _, b, missing in signals],
    )
    altered = AlteredRule(PIPELINE, FIXED, weights=Weights(ALPHA, 4)).decide(rows)
    assert altered.scores_after.tobytes() == rows.scores.tobytes()
    assert not altered.changed.any()


def test_signals_of_another_model_are_weighed_as_each_decision_was() -> None:
    rows = recorded([0.5], [0.25])
    signals = StageSignals(np.array([[0.5, 1.0]], np.float32), rows.present)
    altered = AlteredRule(PIPELINE, FIXED).decide(rows, signals)
    assert altered.scores_after.tolist() == [0.25 * 0.5 + 0.75]
    others = RecordedRules(lambda _: Weights({"a": 0.5, "b": 0.5}, 4), lambda _: POLICY)
    with pytest.raises(WeightsDiffer, match=r"weights@4 give p\.events/2/10 the score 0\.375, its"):
        AlteredRule(PIPELINE, others).decide(rows, signals)


def test_a_policy_that_is_not_known_or_not_the_one_that_decided_is_refused() -> None:
    rows = recorded([0.5], [0.25])
    weights = Weights(ALPHA, 5)
    nothing = RecordedRules(FIXED.weights, lambda _: None)
    with pytest.raises(PolicyUnknown, match="1 decisions are by policy p@3, and neither"):
        AlteredRule(PIPELINE, nothing, weights=weights).decide(rows)
    later = pipeline_with({"review": 0.5}).policy
    other = RecordedRules(FIXED.weights, lambda _: later)
    with pytest.raises(PolicyDiffers, match=r"of p\.events/2/10 it says approve, the decision is"):
        AlteredRule(PIPELINE, other, weights=weights).decide(rows)


def test_what_was_decided_by_lateness_stays() -> None:
    (late,) = decisions([0.5], [0.25])
    late = late.model_copy(
        update={"decided_by": "late", "score": None, "contributions": {}, "early": True}
    )
    rows = columns_of(list(ALPHA), [(late, 2)])
    altered = AlteredRule(PIPELINE, FIXED, weights=Weights({"a": 1.0, "b": 0.0}, 5)).decide(rows)
    assert not altered.changed.any()
    assert np.isnan(altered.scores_after).all()
    assert rows.redriven.all()
    counts = counts_of(rows, as_recorded=0, dead_letters=7, foreign=1)
    assert (counts.decided, counts.late, counts.redriven, counts.early) == (1, 1, 1, 1)
    assert (counts.degraded, counts.dead_letters, counts.foreign) == (0, 7, 1)


def figures(costs: dict[str, DecisionCost] | None = None) -> FigureMaker:
    """Scores 0.25, 0.5, 0, 1 with the labels no, yes, yes, unknown, all thresholds at 0.4."""
    rows = recorded([0.25, 0.5, 0, 1], [0.25, 0.5, 0, 1])
    policy = Policy(version=9, thresholds={"review": 0.4, "decline": 0.9})
    altered = AlteredRule(PIPELINE, FIXED, policy=policy).decide(rows)
    outcomes = Outcomes(np.array([True, True, True, False]), np.array([False, True, True, False]))
    return FigureMaker(altered, outcomes, "approve", costs)


def test_flows_are_counted_and_changes_come_first() -> None:
    flows = [(flow.before, flow.after, flow.events, flow.share) for flow in figures().flows()]
    assert flows == [
        ("review", "approve", 1, 0.25), ("decline", "review", 1, 0.25),
        ("approve", "approve", 1, 0.25), ("decline", "decline", 1, 0.25),
    ]  # fmt: skip


def test_quality_and_cost_are_of_the_events_whose_outcome_is_known() -> None:
    costs = {
        "approve": DecisionCost(positive=100), "review": DecisionCost(positive=5, negative=5),
        "decline": DecisionCost(negative=30),
    }  # fmt: skip
    said = figures(costs).quality()
    assert said is not None
    assert (said.known, said.positives) == (3, 2)
    # Before: review (no), decline (yes), approve (yes): 5 + 0 + 100.
    assert said.before.cost == pytest.approx(105 / 3)
    # After: approve (no), review (yes), approve (yes): 0 + 5 + 100.
    assert said.after.cost == pytest.approx(105 / 3)
    assert said.cost == 0
    assert (said.before.precision, said.before.recall) == (0.5, 0.5)
    assert (said.after.precision, said.after.recall) == (1.0, 0.5)
    assert said.after.auc == 0.5
    without = figures({"approve": DecisionCost()}).quality()
    assert without is not None
    assert without.cost is None, "what a decline costs is not stated"


def test_without_outcomes_there_is_no_quality() -> None:
    maker = figures()
    unknown = FigureMaker(maker.altered, Outcomes.unknown(4), "approve", None)
    assert unknown.quality() is None


def test_segments_count_their_own_events() -> None:
    place = np.array([0, 0, 1, 1])
    first, second = figures().segments(["low", "high"], place)
    assert (first.segment, first.events, first.changed, first.share) == ("low", 2, 2, 1.0)
    assert (second.events, second.changed) == (2, 0)
    assert first.outcomes is not None
    assert first.outcomes.known == 2


def test_examples_are_those_that_move_most() -> None:
    rows = recorded([0.5, 0.5, 0.5], [0.25, 0.125, 0.5])  # scores 0.3125, 0.21875, 0.5
    other = Weights({"a": 0.0, "b": 1.0}, 5)
    altered = AlteredRule(PIPELINE, FIXED, weights=other).decide(rows)
    maker = FigureMaker(altered, Outcomes.unknown(3), "approve", None)
    assert {(flow.before, flow.after) for flow in maker.flows()} == {
        ("review", "review"), ("approve", "approve"), ("decline", "decline"),
    }  # fmt: skip
    flow = next(flow for flow in maker.flows() if flow.before == "approve")
    signals = StageSignals(rows.signals, rows.present)
    examples = ExampleMaker(PIPELINE, rows, altered, signals, lambda _: other, {})
    (row,) = examples.rows(flow, 5)
    example = examples.example(row)
    assert (example.source.partition, example.source.offset) == (2, 11)
    assert (example.score_before, example.score_after) == (0.21875, 0.125)
    (_, decision, _) = decisions([0.5, 0.5, 0.5], [0.25, 0.125, 0.5])
    record = examples.record(decision, row, "approve")
    assert (record.score, record.weights) == (0.125, 5)
    weighed = {
        name: (each.weight, each.contribution) for name, each in record.contributions.items()
    }
    assert weighed == {"a": (0, 0), "b": (1, 0.125)}
    assert record.contributions["b"].model == "b@1"


def test_numbers_are_in_segments_of_quantiles_and_the_missing_in_one_of_their_own() -> None:
    pipeline = PIPELINE.model_copy(update={"event": PIPELINE.event.model_copy(update={
        "fields": {"amount": PIPELINE.event.fields["id"].model_copy(update={"type": "number"})},
    })})  # fmt: skip
    values = np.array([*range(10), np.nan, 0.0])
    known = np.array([True] * 11 + [False])
    names, place = segments_of(pipeline, "amount", FieldValues(values, known))
    assert names[-2:] == ["missing", "event gone"]
    assert place[:10].tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 4] or len(set(place[:10])) == 5
    assert place[10:].tolist() == [len(names) - 2, len(names) - 1]
    assert np.bincount(place[:10]).min() >= 1


def test_texts_are_in_segments_of_their_most_frequent_values() -> None:
    values = np.array(["x"] * 3 + ["y"] + [f"rare-{n}" for n in range(12)] + [""], object)
    names, place = segments_of(PIPELINE, "id", FieldValues(values, np.ones(17, np.bool_)))
    assert names[0] == "x"
    assert names[10:] == ["others", "missing"]
    assert place[:3].tolist() == [0, 0, 0]
    assert np.bincount(place)[10] == 4


def test_a_field_that_there_is_not_makes_no_segments() -> None:
    with pytest.raises(NotAField, match="--segment amount: an event has no such field; it has id"):
        check_field(PIPELINE, "amount")


def explored_of(share: float, n: int = 2_000) -> DecisionColumns:
    """Events of which every other is declined, at score 1; a *share* of those was explored."""
    policy = POLICY.model_copy(
        update={"explore": Explore(of=["decline"], decision="approve", share=share)}
    )
    pipeline = PIPELINE.model_copy(update={"policy": policy})
    signals: list[float | None] = [float(row % 2) for row in range(n)]
    joined = joined_of({"a": stage("a", signals), "b": stage("b", signals)})
    records = records_of(joined, pipeline=pipeline)
    return columns_of(list(ALPHA), [(parsed(record), 1) for record in records])


def test_a_what_if_compares_what_policies_say_whatever_chance_has_made_of_it() -> None:
    rows = explored_of(0.2)
    assert 100 < rows.explored.sum() < 300
    assert set(rows.propensity[rows.explored]) == {0.2}
    assert set(rows.propensity[~rows.explored]) == {0.8, 1.0}
    same = AlteredRule(PIPELINE, FIXED, policy=POLICY).decide(rows)
    assert not same.changed.any()
    named_by_file = AlteredRule(PIPELINE, FIXED, weights=Weights(ALPHA, 4)).decide(rows)
    assert not named_by_file.changed.any(), "the recorded policy has decided so, too"


def test_explored_events_stand_for_those_that_were_declined() -> None:
    """Two of five declined events are fraud; known are outcomes of what was let through."""
    share = 0.2
    rows = explored_of(share)
    n, declined = len(rows), np.arange(len(rows)) % 2 == 1
    labels = declined & (np.arange(n) % 5 < 2)
    looser = Policy(version=9, thresholds={"review": 0.5})
    altered = AlteredRule(PIPELINE, FIXED, policy=looser).decide(rows)
    known = ~declined | rows.explored
    costs = {
        "approve": DecisionCost(positive=100), "review": DecisionCost(positive=5, negative=5),
        "decline": DecisionCost(negative=30),
    }  # fmt: skip
    weights = outcome_weights(rows.explored, rows.propensity)
    said = FigureMaker(
        altered, Outcomes(known, labels & known), "approve", costs, weights
    ).quality()
    assert said is not None
    assert said.explored == rows.explored.sum()
    assert abs(said.stands_for / n - 1) < 0.1
    # All that is declined: 40 % fraud, so 60 % of them cost 30; half of all events.
    assert said.before.cost is not None
    assert abs(said.before.cost - 0.5 * 0.6 * 30) < 1.5
    low, high = said.before.intervals["cost"]
    assert low < 0.5 * 0.6 * 30 < high
    assert said.after.cost is not None
    assert abs(said.after.cost - 0.5 * 5) < 0.25
    assert said.cost_interval is not None
    assert said.cost_interval[0] < 0.5 * (5 - 18) < said.cost_interval[1]
    # An outcome of what was not explored, which somebody has looked at, is of no use.
    all_known = Outcomes(np.ones(n, np.bool_), labels)
    again = FigureMaker(altered, all_known, "approve", costs, weights).quality()
    assert again is not None
    assert again.not_weighed == (declined & ~rows.explored).sum()
    assert again.before == said.before
    biased = FigureMaker(altered, Outcomes(known, labels & known), "approve", costs).quality()
    assert biased is not None
    assert biased.before.cost is not None
    assert biased.before.cost < 4, "unweighed, few declined events count like many approved ones"
