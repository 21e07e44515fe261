"""A challenger beside the champion: both run on the same rows, and each row takes one's output."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from agents.components.catalogue import OpenComponent
from agents.components.running import ComponentOutputs, transform
from models.component import Batch
from topics.records import Bools, BytesColumn, Ints, ModelRef


class ActiveChallenger(NamedTuple):
    """A model that runs beside the champion."""

    opened: OpenComponent
    share: float
    """Share of the keys that it decides for; 0 for a shadow."""


class ChallengerOutputs(NamedTuple):
    """What the challenger makes of the same rows."""

    model: ModelRef
    outputs: ComponentOutputs
    share: float


@dataclass(frozen=True, slots=True)
class ModelOutputs:
    """What the champion makes of N rows, and what the challenger does, if there is one."""

    model: ModelRef
    outputs: ComponentOutputs
    challenger: ChallengerOutputs | None = None

    def picked(self, rows: Ints) -> ModelOutputs:
        """Some rows (N), in ascending order."""
        return self.changed(lambda outputs: outputs.picked(rows))

    def changed(self, change: Callable[[ComponentOutputs], ComponentOutputs]) -> ModelOutputs:
        """The same with *change* made to both models' outputs."""
        challenger = self.challenger and self.challenger._replace(
            outputs=change(self.challenger.outputs)
        )
        return ModelOutputs(self.model, change(self.outputs), challenger)


def run_models(
    champion: OpenComponent, challenger: ActiveChallenger | None, batch: Batch
) -> ModelOutputs:
    """Run one model, or both, over *batch*."""
    outputs = transform(champion.component, batch)
    if challenger is None:
        return ModelOutputs(champion.model, outputs)
    opened, share = challenger
    beside = ChallengerOutputs(opened.model, transform(opened.component, batch), share)
    return ModelOutputs(champion.model, outputs, beside)


def in_share(component: str, keys: BytesColumn, share: float) -> Bools:
    """Which keys (N) a challenger of *component* decides for: always the same ones.

    >>> keys = BytesColumn.of([b"%d" % n for n in range(10_000)])
    >>> small, large = in_share("risk", keys, 0.05), in_share("risk", keys, 0.2)
    >>> bool(0.04 < small.mean() < 0.06), bool((small <= large).all())
    (True, True)
    """
    salt = zlib.crc32(component.encode())
    hashes = np.array([zlib.crc32(key, salt) for key in keys.items()], np.uint32)
    # Lanes are CRCs too: the product makes the share independent of them.
    spread = hashes * np.uint32(2654435769)
    chosen: Bools = spread < share * 2.0**32
    return chosen


def split_outputs(
    both: ModelOutputs, chosen: Bools
) -> tuple[tuple[ComponentOutputs, Bools], tuple[ComponentOutputs, Bools]]:
    """The outputs that are used and those that are not, each with which rows the challenger made.

    *chosen* are the rows (N,) that the challenger is to decide. It decides none that it has no
    output for, and none at all if its outputs have another width than the champion's.
    """
    if both.challenger is None:
        raise ValueError("there is no challenger")
    ours, theirs = _of_one_width(both.outputs, both.challenger.outputs)
    if ours.output.shape[1] != theirs.output.shape[1]:
        chosen = np.zeros_like(chosen)
        return (ours, chosen), (theirs, ~chosen)
    chosen = chosen & theirs.present
    return (_either(theirs, ours, chosen), chosen), (_either(ours, theirs, chosen), ~chosen)


def _of_one_width(
    first: ComponentOutputs, second: ComponentOutputs
) -> tuple[ComponentOutputs, ComponentOutputs]:
    """The same; one without any output takes the width of the other."""
    width = first.output.shape[1] if first.present.any() else second.output.shape[1]

    def of_width(outputs: ComponentOutputs) -> ComponentOutputs:
        if outputs.present.any():
            return outputs
        return replace(outputs, output=np.zeros((len(outputs.present), width)))

    return of_width(first), of_width(second)


def _either(first: ComponentOutputs, second: ComponentOutputs, chosen: Bools) -> ComponentOutputs:
    """Rows of *first* where chosen, of *second* elsewhere."""
    errors = {row: why for row, why in first.errors.items() if chosen[row]}
    errors |= {row: why for row, why in second.errors.items() if not chosen[row]}
    return ComponentOutputs(
        np.where(chosen, first.present, second.present),
        np.where(chosen[:, None], first.output, second.output),
        np.where(chosen, first.signal, second.signal),
        errors,
    )
