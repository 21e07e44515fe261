"""Thresholds change in a pipeline file, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from agents.commands.policy_advice import NoCosts, advice, check_costs, write_policy
from models.report.decision_costs import CostReport, DecisionCount, PolicyResult
from topics.pipeline.edits import PolicyNotEditable, with_thresholds
from topics.pipeline.file import load_pipeline

CARD_FRAUD = Path("deploy/pipelines/card-fraud.yaml")
NEW = {"review": 0.00002, "decline": 0.8312}
COSTS = "  costs: {approve: {positive: 120}, review: {negative: 5}, decline: {negative: 30}}\n"


def test_comments_and_layout_stay() -> None:
    text = CARD_FRAUD.read_text()
    changed = with_thresholds(text, NEW, 2)
    apart = [(a, b) for a, b in zip(text.splitlines(), changed.splitlines(), strict=True) if a != b]
    assert apart == [
        ("  version: 1", "  version: 2"),
        ("    review: 0.10", "    review: 0.00002"),
        ("    decline: 0.50", "    decline: 0.8312"),
    ]


@pytest.mark.parametrize(
    "policy",
    [
        "policy: {thresholds: {review: 0.1, decline: 0.5}, otherwise: ok}  # flow\n",
        "policy:\n    # first\n    otherwise: ok\n    thresholds: {review: .1, decline: 5.0e-1}\n",
        "policy: {otherwise: ok, version: 7, thresholds: {'review': 0.1, \"decline\": 0.5}}\n",
    ],
)
def test_other_ways_to_write_a_policy_work_too(policy: str) -> None:
    changed = with_thresholds("pipeline: a\n" + policy + "partitions: 2\n", NEW, 8)
    assert yaml.safe_load(changed) == {
        "pipeline": "a",
        "policy": {"otherwise": "ok", "version": 8, "thresholds": NEW},
        "partitions": 2,
    }
    assert changed.count("#") == policy.count("#")


@pytest.mark.parametrize(
    "text",
    [
        "policy: {thresholds: {review: 0.1}}\n",
        "policy: {thresholds: {decline: 0.5, review: 0.1}}\n",
        "policy: {}\n",
        "a: &it {review: 0.1, decline: 0.5}\npolicy: {version: 1, thresholds: *it}\n",
        "a: &it 0.1\npolicy: {version: 1, thresholds: {review: *it, decline: 0.5}}\n",
        "- policy\n",
    ],
)
def test_what_cannot_be_edited_safely_is_left_alone(text: str) -> None:
    with pytest.raises(PolicyNotEditable, match="by hand"):
        with_thresholds(text, NEW, 2)


def costs(stated: float, best: float) -> CostReport:
    decisions = {"approve": DecisionCount(rows=100, positives=1)}
    old = PolicyResult(thresholds={"review": 0.1, "decline": 0.5}, decisions=decisions, cost=stated)
    return CostReport(
        chosen_on=100, stated=old, never_worth_it=[],
        best=PolicyResult(thresholds=NEW, decisions=decisions, cost=best),
    )  # fmt: skip


def test_thresholds_that_cost_less_are_written_and_load(tmp_path: Path) -> None:
    path = tmp_path / "card-fraud.yaml"
    path.write_text(CARD_FRAUD.read_text().replace("policy:\n", f"policy:\n{COSTS}"))
    said = write_policy(load_pipeline(path), costs(0.2, 0.1))
    policy = load_pipeline(path).pipeline.policy
    assert (policy.version, policy.thresholds) == (2, NEW)
    assert "policy version 2" in said
    assert [each.name for each in tmp_path.iterdir()] == ["card-fraud.yaml"]


def test_thresholds_that_cost_no_less_on_later_events_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "card-fraud.yaml"
    path.write_text(CARD_FRAUD.read_text().replace("policy:\n", f"policy:\n{COSTS}"))
    before = path.read_bytes()
    assert "left as it was" in write_policy(load_pipeline(path), costs(0.1, 0.1))
    assert path.read_bytes() == before
    assert "keep them" in advice(load_pipeline(path), costs(0.1, 0.2))


def test_the_advice_is_yaml_to_paste() -> None:
    remedies = advice(load_pipeline(CARD_FRAUD), costs(0.2, 0.1))
    pasted = yaml.safe_load(remedies[remedies.index("policy:") :])
    assert pasted == {"policy": {"version": 2, "thresholds": NEW}}
    assert remedies.startswith("cost of 1,000 events: 200.00 by")


@pytest.mark.parametrize(
    "name", ["yes", "no", "on", "null", "007", "1e3", "2018-04-01", "a: b", "#"]
)
def test_the_advice_is_yaml_whatever_decisions_are_called(tmp_path: Path, name: str) -> None:
    thresholds = {"review": 0.1, name: 0.7}
    path = tmp_path / "card-fraud.yaml"
    path.write_text(CARD_FRAUD.read_text().replace("decline", f'"{name}"'))
    verdict = PolicyResult(thresholds=thresholds, decisions={}, cost=0.1)
    report = costs(0.2, 0.1).model_copy(update={"best": verdict})
    remedies = advice(load_pipeline(path), report)
    assert (
        yaml.safe_load(remedies[remedies.index("policy:") :])["policy"]["thresholds"] == thresholds
    )
    with pytest.raises(NoCosts) as caught:
        check_costs(load_pipeline(path))
    costs_to_add = str(caught.value).split("add policy: ")[1]
    assert list(yaml.safe_load(costs_to_add)["costs"]) == ["approve", "review", name]


def test_without_costs_there_is_nothing_to_write() -> None:
    with pytest.raises(NoCosts, match=r"approve: \{positive: …, negative: …\}"):
        check_costs(load_pipeline(CARD_FRAUD))
