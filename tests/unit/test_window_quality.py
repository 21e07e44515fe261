"""What a window's figures are held against, and what they are not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.monitor.decision_batch import DecisionBatch, StageModel
from agents.monitor.decision_store import LabelledDecisions
from agents.quality.promises import Promises
from agents.quality.window_quality import Window, WindowJudge
from models.arrays import Bools
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.records import QualityFinding

N = 400
CARD_FRAUD = load_pipeline(find_pipeline("card-fraud")).pipeline
STAGES = CARD_FRAUD.weighting.inputs


class Perfect(Promises):
    """Cards that promise more than any model keeps."""

    def __init__(self) -> None:
        """Nothing is read."""

    def of_component(self, models: Sequence[str]) -> dict[str, float]:
        return {"auc": 0.999}

    def of_weights(self, versions: Sequence[int]) -> dict[str, float]:
        return {"auc": 0.999}


def judged(known: Bools, explored: Bools) -> QualityFinding:
    """A day of events whose scores say nothing; the first tenth was declined, or is explored."""
    rng = np.random.default_rng(7)
    numbers = np.arange(N)
    declined = (numbers < N // 10) & ~explored
    decisions = DecisionBatch(
        stages=STAGES, partitions=numbers % 4, offsets=numbers, log_offsets=numbers,
        ids=[f"e{n}" for n in numbers], keys=[f"c{n}" for n in numbers],
        event_ms=numbers, decided_ms=numbers, scores=rng.random(N),
        signals=rng.random((N, len(STAGES))), alphas=np.full((N, len(STAGES)), 1 / len(STAGES)),
        failed=np.zeros((N, len(STAGES)), np.bool_),
        decided=["decline" if each else "approve" for each in declined.tolist()],
        models=[tuple(StageModel(stage, f"{stage}@1", "sha256:1") for stage in STAGES)] * N,
        weights=np.ones(N, np.int64), policies=["card-fraud@1"] * N, explored=explored,
        propensity=np.where(explored, 0.05, 1.0),
    )  # fmt: skip
    rows = LabelledDecisions(decisions, known, rng.random(N) < 0.2, [None] * N)
    judge = WindowJudge(CARD_FRAUD, Perfect())
    return judge.matured(Window(0, 86_400_000), rows, CARD_FRAUD.policy, 1, {})


def test_figures_without_any_outcome_of_what_was_declined_are_held_against_no_promise() -> None:
    nobody = np.zeros(N, np.bool_)
    finding = judged(known=np.arange(N) >= N // 10, explored=nobody)
    assert len(finding.unknown) == 1
    assert "held against" in finding.unknown[0]
    assert {tuple(each.outside) for each in finding.subjects} == {()}
    assert all("auc" in each.figures and "auc" in each.promised for each in finding.subjects)


def test_figures_in_which_some_of_what_was_declined_are_explored_are_held_against_it() -> None:
    explored = np.arange(N) % 10 == 0
    explored[N // 10 :] = False
    finding = judged(known=(np.arange(N) >= N // 10) | explored, explored=explored)
    assert finding.unknown == []
    assert all(each.outside == ["auc"] for each in finding.subjects)


def test_figures_of_which_all_outcomes_are_known_are_held_against_it() -> None:
    finding = judged(known=np.ones(N, np.bool_), explored=np.zeros(N, np.bool_))
    assert all(each.outside == ["auc"] for each in finding.subjects)
