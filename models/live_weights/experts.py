"""The weight vectors among which belief is shared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Floats64

_REFERENCE_PRIOR = 0.5
"""The belief that the trained weights begin with, and that a switch goes back to them."""


@dataclass(frozen=True, slots=True, eq=False)
class Experts:
    """E weight vectors over S stages, and what is believed of each before any outcome.

    An expert alone is no stage: the best blend of stages would then not be among what is learned,
    and a learner of log loss gives all its belief to the best expert in the end. So the experts are
    the trained weights; the trained weights without one stage, for when that one goes bad; each of
    these halfway to one of its stages, for when that has become better than the others; and each
    stage alone, so that every blend can be reached.
    """

    alpha: Floats64
    """(E, S), rows sum to 1; the first is the trained weights."""
    prior: Floats64
    """(E,), sums to 1."""

    @classmethod
    def of(cls, trained: Floats64) -> Experts:
        """The experts of weights (S,) that were trained.

        >>> Experts.of(np.array([0.75, 0.25])).alpha.tolist()
        [[0.75, 0.25], [0.0, 1.0], [1.0, 0.0], [0.875, 0.125], [0.375, 0.625]]
        """
        alone = np.eye(len(trained))
        rests = [np.where(stage > 0, 0.0, trained) for stage in alone]
        blends = [trained, *(rest / rest.sum() for rest in rests if rest.sum() > 0)]
        halfway = [
            (blend + stage) / 2 for blend in blends for stage in alone if (blend * stage).any()
        ]
        vectors = [*blends, *halfway, *alone]
        different: list[Floats64] = []
        for vector in vectors:
            if not any(np.array_equal(vector, other) for other in different):
                different.append(vector)
        others = len(different) - 1
        prior = np.full(len(different), (1 - _REFERENCE_PRIOR) / max(1, others))
        prior[0] = _REFERENCE_PRIOR if others else 1.0
        return cls(np.array(different), prior)
