"""Composing the stages: weights from held-out rows, and how good the weighted score is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats64
from models.learned_weights import LearnedWeights, learn_weights
from models.registry import WeightsCard
from models.report.ablation import Signals, StageLoss, scores_of, stage_losses
from models.report.decision_costs import CostReport, least_cost, policy_result
from models.report.quality import Quality, curves, quality
from models.report.training_report import COMPOSED, ComposedReport, Cutoffs, HeldOutReport, cutoffs
from models.training.splits import Blocks
from models.training.stage_outputs import StageOutputs
from topics.pipeline import Pipeline, Policy


class Composition(NamedTuple):
    """The weights of the stages and what they reach."""

    weights: dict[str, float]
    card: WeightsCard | None
    """For the registry, without models; None for weights that the pipeline file fixes."""
    quality: ComposedReport
    rows: slice
    """The rows that the quality was measured on."""
    cutoffs: Cutoffs | None
    """By all held-out rows; None where the weighted score was not measured."""
    held_out: HeldOutReport
    not_learned: list[str]
    """Stages with an equal share instead of a learned weight."""


def compose(
    pipeline: Pipeline,
    stages: StageOutputs,
    blocks: Blocks,
    *,
    clock: Callable[[], datetime],
    unmeasured: Mapping[str, str] | None = None,
) -> Composition:
    """Learn the weights, unless the pipeline file fixes them.

    Learned on one half of the held-out rows, reported on the other. Stages that are *unmeasured*,
    each with why, may have seen both: each gets an equal share of the weights, and the others
    share what is left as they have learned. Raises WeightsNotOptimal.
    """
    names, unmeasured = pipeline.weighting.inputs, unmeasured or {}
    fixed = pipeline.weighting.fixed_weights
    not_learned: list[str] = []
    learned: LearnedWeights | None = None
    if fixed is not None:
        weights, rows = {name: fixed[name] for name in names}, blocks.held_out
    else:
        rows, not_learned = blocks.report, [name for name in names if name in unmeasured]
        if learning := [name for name in names if name not in unmeasured]:
            labels = stages.data.labels[blocks.weighing]
            learned = learn_weights(
                stages.signals(learning, blocks.weighing), labels, learning,
                stages.data.weights_of(blocks.weighing),
            )  # fmt: skip
        weights = _shared(names, not_learned, learned.values if learned else {})
    why = next((unmeasured[name] for name in names if name in unmeasured and weights[name]), None)
    if why is not None:
        stage = next(name for name in names if name in unmeasured and weights[name])
        why = f"{stage} {why}"
    reached = ComposedReport.of(why or _quality(stages, weights, rows))
    card = None
    if fixed is None:
        metrics = reached.model_dump(exclude={"not_measured"}, exclude_none=True)
        if learned is not None:
            metrics |= {"learned_log_loss": learned.loss, "gap": learned.gap}
        card = WeightsCard(
            values=weights, rows=len(stages.data.labels[blocks.weighing]) if learned else 0,
            created_at=clock().isoformat(), metrics=metrics, models={}, not_learned=not_learned,
        )  # fmt: skip
    return Composition(
        weights, card, reached, rows,
        None if why else _cutoffs(stages, weights, blocks.held_out),
        _held_out(pipeline, stages, blocks, weights, rows, unmeasured, whole=why is None),
        not_learned,
    )  # fmt: skip


def _shared(
    names: Sequence[str], not_learned: Sequence[str], learned: Mapping[str, float]
) -> dict[str, float]:
    """Weights of all stages: an equal share for those *not_learned*, the rest as was *learned*.

    >>> _shared(["a", "b", "c", "d"], ["a"], {"b": 0.5, "c": 0.5, "d": 0.0})
    {'a': 0.25, 'b': 0.375, 'c': 0.375, 'd': 0.0}
    """
    equal = 1 / len(names)
    if not not_learned:
        return {name: learned[name] for name in names}
    left = 1 - equal * len(not_learned)
    return {name: equal if name in not_learned else left * learned[name] for name in names}


def _held_out(
    pipeline: Pipeline,
    stages: StageOutputs,
    blocks: Blocks,
    weights: Mapping[str, float],
    rows: slice,
    unmeasured: Mapping[str, str],
    *,
    whole: bool,
) -> HeldOutReport:
    """About *rows*; with figures of the weighted score where it is *whole*, measured in all."""
    labels, score = stages.data.labels[rows], _scores(stages, weights, rows)
    shown: dict[str, NDArray[np.floating]] = {
        name: stages.signals([name], rows)[:, 0] for name in weights if name not in unmeasured
    }
    declared, counts = blocks.refit_stop is not None, stages.data.weights_of(rows)
    if not whole:
        return HeldOutReport(
            rows=len(labels), positives=int(labels.sum()), declared=declared,
            curves={name: curves(labels, signal, counts) for name, signal in shown.items()},
            left_out={}, policy=None, costs=None,
        )  # fmt: skip
    return HeldOutReport(
        rows=len(labels),
        positives=int(labels.sum()),
        declared=declared,
        curves={
            name: curves(labels, signal, counts)
            for name, signal in {**shown, COMPOSED: score}.items()
        },
        left_out={} if unmeasured else _stage_losses(pipeline, stages, blocks, weights, rows),
        policy=policy_result(pipeline.policy, pipeline.policy.thresholds, labels, score, counts),
        costs=_costs(pipeline.policy, stages, blocks, weights),
    )


def _stage_losses(
    pipeline: Pipeline,
    stages: StageOutputs,
    blocks: Blocks,
    weights: Mapping[str, float],
    rows: slice,
) -> dict[str, StageLoss]:
    """What each stage adds: weights without it learned anew, or fixed ones scaled up."""

    def learn(signals: Signals, names: Sequence[str]) -> Mapping[str, float]:
        if pipeline.weighting.fixed_weights is not None:
            return _scaled({name: weights[name] for name in names})
        labels, counts = (
            stages.data.labels[blocks.weighing],
            stages.data.weights_of(blocks.weighing),
        )
        return learn_weights(signals, labels, names, counts).values

    names = list(weights)
    learning, judged = (stages.signals(names, block) for block in (blocks.weighing, rows))
    labels, counts = stages.data.labels[rows], stages.data.weights_of(rows)
    return stage_losses(weights, learning, judged, labels, learn, counts)


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
    (chosen_on, chosen_scores, chosen_counts), (labels, scores, counts) = (
        (stages.data.labels[rows], _scores(stages, weights, rows), stages.data.weights_of(rows))
        for rows in (blocks.weighing, blocks.report)
    )
    best = least_cost(policy, chosen_on, chosen_scores, chosen_counts)
    return CostReport(
        chosen_on=len(chosen_on),
        stated=policy_result(policy, policy.thresholds, labels, scores, counts),
        best=policy_result(policy, best, labels, scores, counts),
        never_worth_it=[name for name in policy.thresholds if name not in best],
    )


def _quality(stages: StageOutputs, weights: Mapping[str, float], rows: slice) -> Quality:
    labels, counts = stages.data.labels[rows], stages.data.weights_of(rows)
    return quality(labels, _scores(stages, weights, rows), counts)


def _cutoffs(stages: StageOutputs, weights: Mapping[str, float], rows: slice) -> Cutoffs:
    labels, counts = stages.data.labels[rows], stages.data.weights_of(rows)
    return cutoffs(labels, _scores(stages, weights, rows), counts)


def _scores(stages: StageOutputs, weights: Mapping[str, float], rows: slice) -> Floats64:
    """The scores that the weighting agent would give *rows*."""
    return scores_of(stages.signals(list(weights), rows), list(weights.values()))
