"""Which stages are weighed: no weight that one row may have made, no mixture worse than a stage.

On the rows that weights are learned on, the best mixture loses to no single stage, and each further
stage makes it better; of few positives that is partly chance.

- A weight below one over the number of positives (of the other outcome, if that is rarer) is none:
  leaving one of them out moves weights by about as much. It is no small matter: where one event in
  two hundred is a fraud, a hundredth of a signal that is no probability reorders what scores low.
- The mixture is not weighed where it does worse than the best stage on rows that neither was
  chosen on: both are chosen on four fifths of the rows and judged on the fifth left, five times
  (Stone, *Cross-Validatory Choice and Assessment of Statistical Predictions*, J. R. Stat. Soc. B
  36, 1974). Then the stage that is best on all rows has all the weight. Worse is by more than one
  standard error: of two that are as good, the mixture still decides when a stage is missing.

More was tried on the handbook's weeks, and lost: leaving out, one by one, each stage without which
those rows lose nothing. Of sixty frauds in such rows it leaves out stages that help on other days.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.arrays import Bools, Floats64
from models.learned_weights import LearnedWeights, learn_weights
from models.weighting import CLIP

FOLDS = 5
FEWEST = 2 * FOLDS
"""Rows of the rarer outcome: with fewer, a fifth says nothing, and weights stay as learned."""

Signals = NDArray[np.floating]
Mass = Floats64 | None
Choice = Callable[[Signals, Bools, Mass], Floats64]
"""Weights (S,) by signals (N, S), labels (N,) and how much each row counts (N,)."""


def select_weights(
    signals: Signals, labels: Bools, names: Sequence[str], mass: Mass = None
) -> LearnedWeights:
    """Weights of stages *names*, some of them 0, by `signals` (N, S) in [0, 1] and `labels` (N,).

    Of rows in time order on which no stage was fitted; each counts by its *mass* (N,). Raises as
    `learn_weights` does.
    """
    learned, rarer = learn_weights(signals, labels, names, mass), _rarer(labels)
    if rarer < FEWEST or len(names) < 2:
        return learned
    mixture = _without_chance(signals, labels, names, mass, learned)
    worse = _judged(signals, labels, mass, _mixture) - _judged(signals, labels, mass, _best_stage)
    if mass is not None:
        worse *= mass / mass.mean()
    if worse.mean() <= worse.std() / np.sqrt(len(worse)):
        return mixture
    alone = _best_stage(signals, labels, mass)
    best = learn_weights(signals[:, alone > 0], labels, [names[int(np.argmax(alone))]], mass)
    return replace(best, values=dict(zip(names, alone.tolist(), strict=True)))


def _without_chance(
    signals: Signals, labels: Bools, names: Sequence[str], mass: Mass, learned: LearnedWeights
) -> LearnedWeights:
    """The weights of those stages whose weight no single row may have made, 0 for the others."""
    least, kept = 1 / max(_rarer(labels), len(names)), list(names)
    while small := [name for name in kept if learned.values[name] < least]:
        kept = [name for name in kept if name not in small]
        places = [names.index(name) for name in kept]
        learned = learn_weights(signals[:, places], labels, kept, mass)
    return replace(learned, values={name: learned.values.get(name, 0.0) for name in names})


def _mixture(signals: Signals, labels: Bools, mass: Mass) -> Floats64:
    names = [str(stage) for stage in range(signals.shape[1])]
    learned = learn_weights(signals, labels, names, mass)
    values = _without_chance(signals, labels, names, mass, learned).values
    return np.array([values[name] for name in names])


def _best_stage(signals: Signals, labels: Bools, mass: Mass) -> Floats64:
    alone = np.eye(signals.shape[1])
    losses = [np.average(_losses(signals, labels, stage), weights=mass) for stage in alone]
    best: Floats64 = alone[int(np.argmin(losses))]
    return best


def _judged(signals: Signals, labels: Bools, mass: Mass, choose: Choice) -> Floats64:
    """The log loss of each row (N,), by weights that are chosen on the other fifths."""
    losses = np.empty(len(labels))
    for fold in _folds(labels):
        others = ~fold
        counts = None if mass is None else mass[others]
        alpha = choose(signals[others], labels[others], counts)
        losses[fold] = _losses(signals[fold], labels[fold], alpha)
    return losses


def _losses(signals: Signals, labels: Bools, alpha: Floats64) -> Floats64:
    scores = np.clip(signals.astype(np.float64), CLIP, 1 - CLIP) @ alpha
    losses: Floats64 = -np.log(np.where(labels, scores, 1 - scores))
    return losses


def _folds(labels: Bools) -> list[Bools]:
    """Spans of time, each with a fifth of the positives and a fifth of the others."""
    fold = np.empty(len(labels), np.int64)
    for label in (False, True):
        rows = np.flatnonzero(labels == label)
        fold[rows] = np.arange(len(rows)) * FOLDS // max(len(rows), 1)
    return [fold == number for number in range(FOLDS)]


def _rarer(labels: Bools) -> int:
    return min(int(labels.sum()), int((~labels).sum()))
