"""Composing the stages: weights from held-out rows, and how good the weighted score is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.registry import WeightsCard
from models.splits import Blocks
from models.stage_outputs import StageOutputs
from models.training_report import ComposedReport, Cutoffs, composed, cutoffs
from models.weighting import combine
from models.weights import learn_weights
from topics.pipeline import Pipeline


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
    weighting = pipeline.weighting
    if weighting.weights != "learned":
        fixed = {name: weighting.weights[name] for name in weighting.inputs}
        quality = _quality(stages, fixed, blocks.held_out)
        return Composition(
            fixed, None, quality, blocks.held_out, _cutoffs(stages, fixed, blocks.held_out)
        )
    rows = blocks.weighing
    labels = stages.data.labels[rows]
    learned = learn_weights(stages.signals(weighting.inputs, rows), labels, weighting.inputs)
    quality = _quality(stages, learned.values, blocks.report)
    card = WeightsCard(
        values=learned.values,
        rows=len(labels),
        created_at=clock().isoformat(),
        metrics={**quality.model_dump(), "learned_log_loss": learned.loss, "gap": learned.gap},
        models={},
    )
    reached = _cutoffs(stages, learned.values, blocks.held_out)
    return Composition(learned.values, card, quality, blocks.report, reached)


def _quality(stages: StageOutputs, weights: Mapping[str, float], rows: slice) -> ComposedReport:
    return composed(stages.data.labels[rows], _scores(stages, weights, rows))


def _cutoffs(stages: StageOutputs, weights: Mapping[str, float], rows: slice) -> Cutoffs:
    return cutoffs(stages.data.labels[rows], _scores(stages, weights, rows))


def _scores(stages: StageOutputs, weights: Mapping[str, float], rows: slice) -> NDArray[np.float64]:
    """The scores that the weighting agent would give *rows*."""
    signals = stages.signals(list(weights), rows)
    alpha = np.array(list(weights.values()))
    return combine(signals, np.ones(signals.shape, np.bool_), alpha).scores
