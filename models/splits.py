"""Which rows a component is fitted on, so that no stage reads what another was fitted to say.

    A  the first 60 %    fits components that read no supervised model
    B  the next 20 %     fits those that do: there the models of A have not seen the labels
    C  the last 20 %     fits none; its first half weighs the stages, its second half reports

A component's level is the number of supervised models in a row before it. Where the
pipeline is deeper than two levels, B is divided, one part for each level from 1 on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.training_errors import OneClass, TooFewRows
from topics.feature import EVENTS
from topics.graph import in_order
from topics.pipeline import Pipeline

FEWEST_ROWS = 200


@dataclass(frozen=True, slots=True)
class Blocks:
    """Consecutive ranges of rows in time order, which do not overlap."""

    fits: tuple[slice, ...]
    """By level: A, then B or its parts."""
    weighing: slice
    """First half of C."""
    report: slice
    """Second half of C."""

    @property
    def held_out(self) -> slice:
        """All of C."""
        return slice(self.weighing.start, self.report.stop)

    def check(self, labels: NDArray[np.bool_]) -> None:
        """Raise OneClass when a block, or all rows, have only one label."""
        if labels.all() or not labels.any():
            raise OneClass("", 0, len(labels), bool(labels[0]))
        names = ["A", *(f"B{level}" for level in range(1, len(self.fits)))]
        blocks = [*self.fits, self.weighing, self.report]
        for name, rows in zip([*names, "C, first half", "C, second half"], blocks, strict=True):
            found = labels[rows]
            if found.all() or not found.any():
                raise OneClass(name, rows.start, rows.stop, bool(found[0]))


def blocks(rows: int, levels: int) -> Blocks:
    """Blocks of *rows* rows for components of *levels* levels. Raises TooFewRows.

    >>> blocks(1000, levels=2).fits
    (slice(0, 600, None), slice(600, 800, None))
    """
    if rows < FEWEST_ROWS:
        raise TooFewRows(rows, FEWEST_ROWS)
    first, second, half = rows * 6 // 10, rows * 8 // 10, rows * 9 // 10
    later = levels - 1
    edges = [first + (second - first) * part // max(later, 1) for part in range(levels)]
    parts = [slice(start, stop) for start, stop in pairwise(edges)]
    return Blocks((slice(0, first), *parts), slice(second, half), slice(half, rows))


def levels(pipeline: Pipeline, supervised: Collection[str]) -> dict[str, int]:
    """The level of every component, when *supervised* are those fitted on labels."""
    found: dict[str, int] = {}
    for name in in_order(pipeline):
        before = [source for source in pipeline.component(name).inputs if source != EVENTS]
        found[name] = max((found[at] + (at in supervised) for at in before), default=0)
    return found
