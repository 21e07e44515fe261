"""Figures with the bounds between which they lie: a bootstrap of keys, by Poisson frequencies.

Events of one key (a card that was stolen) come true together, so keys are resampled, not rows
(Field and Welsh, Bootstrapping clustered data, J. R. Stat. Soc. B 69, 2007). How often each is
drawn is Poisson(1), which is the bootstrap of many rows without drawing them (Hanley and MacGibbon,
Creating non-parametric bootstrap samples using Poisson frequencies, Comput. Methods Programs
Biomed. 83, 2006). The bounds are the percentiles 2.5 and 97.5 of REPLICATES.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from models.arrays import Bools, Floats64, Ints
from models.quality.weighted_figures import Judgement
from topics.pipeline import Policy

REPLICATES = 200
_PERCENTILES = (2.5, 97.5)
_LEAST_SHARE = 0.9
"""Of the replicates that have a figure: with fewer there is no interval."""
LEAST_KEYS = 5
"""Keys with a positive: with fewer, resampling them says little, and there is no interval."""

Labelling = Callable[[np.random.Generator], Floats64]


class Figure(NamedTuple):
    """A figure, and the bounds of its 95 % interval, if any."""

    value: float
    low: float | None
    high: float | None


def judged_figures(
    labels: Bools, scores: Floats64, weights: Floats64, keys: Sequence[str],
    policy: Policy | None, rng: np.random.Generator,
) -> dict[str, Figure]:  # fmt: skip
    """The figures of *scores* in [0, 1] by *labels*, with intervals; all of N rows, at least one.

    *weights* are what rows stand for, *keys* say which belong together.
    """
    judgement = Judgement.of(scores, policy)
    truth = labels.astype(np.float64)[judgement.order]
    clusters = clusters_of(keys)[judgement.order]
    enough = len(np.unique(clusters[truth > 0])) >= LEAST_KEYS
    return resampled(
        judgement, truth, weights[judgement.order], clusters, rng,
        (lambda _: truth) if enough else None,
    )  # fmt: skip


def resampled(
    judgement: Judgement, labels: Floats64, weights: Floats64, clusters: Ints,
    rng: np.random.Generator, labelling: Labelling | None,
) -> dict[str, Figure]:  # fmt: skip
    """Figures by *labels*, with the intervals of those by what *labelling* gives, if it is given.

    All (N,) and in the judgement's order.
    """
    values = judgement.figures(labels, weights)
    if labelling is None:
        return {name: Figure(value, None, None) for name, value in values.items()}
    drawn: dict[str, list[float]] = {name: [] for name in values}
    count = int(clusters.max()) + 1
    for _ in range(REPLICATES):
        times = rng.poisson(1.0, count).astype(np.float64)[clusters]
        for name, value in judgement.figures(labelling(rng), weights * times).items():
            if name in drawn:
                drawn[name].append(value)
    return {name: _figure(value, drawn[name]) for name, value in values.items()}


def _figure(value: float, drawn: Sequence[float]) -> Figure:
    if len(drawn) < _LEAST_SHARE * REPLICATES:
        return Figure(value, None, None)
    low, high = np.percentile(drawn, _PERCENTILES).tolist()
    return Figure(value, low, high)


def clusters_of(keys: Sequence[str]) -> Ints:
    """Which rows (N,) belong together, by their keys (N): numbers from 0 on."""
    places: dict[str, int] = {}
    return np.array([places.setdefault(key, len(places)) for key in keys], np.int64)
