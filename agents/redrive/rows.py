"""Errands as joined rows: what a component, or the weighting agent, reads of many of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from agents.join import JoinedRows, aligned
from topics.errors import WireError
from topics.records import Rows, StageBatch
from topics.redrive import Errand, ErrandOutputs, batches_of

Refusals = Mapping[int, WireError]
"""Source offset → why its errand cannot be dealt with, ever."""


class ErrandRows(NamedTuple):
    """Errands that can be joined, and those that cannot."""

    errands: list[Errand]
    joined: JoinedRows | None
    """Their events as a join would hand them on; None when there are none."""
    refused: Refusals


def joined_rows(errands: Sequence[Errand], inputs: Sequence[str]) -> ErrandRows:
    """The events of *errands*, of one source partition and with offsets that ascend."""
    try:
        return ErrandRows([*errands], _joined(errands, inputs) if errands else None, {})
    except WireError as exc:
        if len(errands) == 1:
            return ErrandRows([], None, {errands[0].offset: exc})
    good: list[Errand] = []
    refused: dict[int, WireError] = {}
    for errand in errands:
        one = joined_rows([errand], inputs)
        good += one.errands
        refused |= one.refused
    return ErrandRows(good, _joined(good, inputs) if good else None, refused)


def _joined(errands: Sequence[Errand], inputs: Sequence[str]) -> JoinedRows:
    """Raises WireError when an output of any errand is none, or when one has no output at all."""
    parts = {name: _outputs(name, [it for it in errands if name in it.outputs]) for name in inputs}
    # An errand without any of the inputs has its rows by another output.
    others = defaultdict[str, list[Errand]](list)
    for errand in errands:
        if not any(name in errand.outputs for name in inputs):
            name = next(iter(errand.outputs), None)
            if name is None:
                raise WireError(f"not an errand: {errand.about.next} needs outputs")
            others[name].append(errand)
    known = [*parts.values(), *(_outputs(name, of) for name, of in others.items())]
    rows = _rows([batch.rows for batches in known for batch in batches])
    stages = {name: aligned(batches, rows.offsets) for name, batches in parts.items()}
    return JoinedRows(rows, stages, {}, errands[0].offset, 0)


def _outputs(name: str, errands: Sequence[Errand]) -> list[StageBatch]:
    """Their outputs of component *name*."""
    contents = [ErrandOutputs.of(errand.outputs).contents[name] for errand in errands]
    return batches_of(name, contents, [errand.about.source for errand in errands])


def _rows(parts: Sequence[Rows]) -> Rows:
    """Each row that is in any part once, in source order."""
    if len(parts) == 1:
        return parts[0]
    every = Rows.concat(parts)
    _, first = np.unique(every.offsets, return_index=True)
    return every.picked(first)
