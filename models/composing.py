"""Composing the stages: weights from held-out rows, and how good the weighted score is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.decision_costs import CostReport, least_cost, verdict
from models.judging import curves, quality
from models.leaving_out import LeftOut, Signals, left_out, scores_of
from models.registry import WeightsCard
from models.splits import Blocks
from models.stage_outputs import StageOutputs
from models.training_report import ComposedReport, Cutoffs, HeldOut, cutoffs
from models.weights import learn_weights
from topics.pipeline import Pipeline
from topics.policy import Policy

COMPOSED = "composed"


class Composition(NamedTuple):
    """The weights of the stages and what they reach."""

    weights: dict[str, float]
    card: WeightsCard | None
    """For the registry, without models; None for weights that the pipeline file fixes."""
    quality: ComposedReport
    rows: slice
    """The rows that the quality was measured on."""
    cutoffs: Cutoffs
    """By all held-out rows."""
    held_out: HeldOut


def compose(
    pipeline: Pipeline,
    stages: StageOutputs,
    blocks: Blocks,
    *,
    clock: Callable[[], datetime],
) -> Composition:
    """Learn the weights, unless the pipeline file fixes them.

    Learned on one half of the held-out rows, reported on the other. Raises WeightsNotOptimal.
    """
    names = pipeline.weighting.inputs
    fixed = pipeline.weighting.weights
    if fixed != "learned":
        weights = {name: fixed[name] for name in names}
        rows, card = blocks.held_out, None
        reached = _quality(stages, weights, rows)
    else:
        labels = stages.data.labels[blocks.weighing]
        learned = learn_weights(stages.signals(names, blocks.weighing), labels, names)
        weights, rows = learned.values, blocks.report
        reached = _quality(stages, weights, rows)
        card = WeightsCard(
            values=weights,
            rows=len(labels),
            created_at=clock().isoformat(),
            metrics={**reached.model_dump(), "learned_log_loss": learned.loss, "gap": learned.gap},
            models={},
        )
    held_out = _held_out(pipeline, stages, blocks, weights, rows)
    return Composition(
        weights, card, reached, rows, _cutoffs(stages, weights, blocks.held_out), held_out
    )


def _held_out(
    pipeline: Pipeline,
    stages: StageOutputs,
    blocks: Blocks,
    weights: Mapping[str, float],
    rows: slice,
) -> HeldOut:
    labels, score = stages.data.labels[rows], _scores(stages, weights, rows)
    shown: dict[str, NDArray[np.floating]] = {
        name: stages.signals([name], rows)[:, 0] for name in weights
    }
    return HeldOut(
        rows=len(labels),
        positives=int(labels.sum()),
        curves={name: curves(labels, it) for name, it in {**shown, COMPOSED: score}.items()},
        left_out=_left_out(pipeline, stages, blocks, weights, rows),
        policy=verdict(pipeline.policy, pipeline.policy.thresholds, labels, score),
        costs=_costs(pipeline.policy, stages, blocks, weights),
    )


def _left_out(
    pipeline: Pipeline,
    stages: StageOutputs,
    blocks: Blocks,
    weights: Mapping[str, float],
    rows: slice,
) -> dict[str, LeftOut]:
    """What each stage adds: weights without it learned anew, or fixed ones scaled up."""

    def learn(signals: Signals, names: Sequence[str]) -> Mapping[str, float]:
        if pipeline.weighting.weights != "learned":
            return _scaled({name: weights[name] for name in names})
        return learn_weights(signals, stages.data.labels[blocks.weighing], names).values

    names = list(weights)
    learning, judged = (stages.signals(names, it) for it in (blocks.weighing, rows))
    return left_out(weights, learning, judged, stages.data.labels[rows], learn)


def _scaled(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights scaled to sum to 1, as the weighting agent does where a stage is missing."""
    total = sum(weights.values())
    if total <= 0:
        return dict.fromkeys(weights, 1 / len(weights))
    return {name: weight / total for name, weight in weights.items()}


def _costs(
    policy: Policy, stages: StageOutputs, blocks: Blocks, weights: Mapping[str, float]
) -> CostReport | None:
    """The thresholds that cost the least on one half of the held-out rows, tried on the other."""
    if policy.costs is None:
        return None
    (chosen_on, chosen_scores), (labels, scores) = (
        (stages.data.labels[rows], _scores(stages, weights, rows))
        for rows in (blocks.weighing, blocks.report)
    )
    best = least_cost(policy, chosen_on, chosen_scores)
    return CostReport(
        chosen_on=len(chosen_on),
        stated=verdict(policy, policy.thresholds, labels, scores),
        best=verdict(policy, best, labels, scores),
        never_worth_it=[name for name in policy.thresholds if name not in best],
    )


def _quality(stages: StageOutputs, weights: Mapping[str, float], rows: slice) -> ComposedReport:
    reached = quality(stages.data.labels[rows], _scores(stages, weights, rows))
    return ComposedReport(**reached.model_dump())


def _cutoffs(stages: StageOutputs, weights: Mapping[str, float], rows: slice) -> Cutoffs:
    return cutoffs(stages.data.labels[rows], _scores(stages, weights, rows))


def _scores(stages: StageOutputs, weights: Mapping[str, float], rows: slice) -> NDArray[np.float64]:
    """The scores that the weighting agent would give *rows*."""
    return scores_of(stages.signals(list(weights), rows), list(weights.values()))
