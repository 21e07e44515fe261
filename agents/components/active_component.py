"""What a component runs now: replaced whole, between two micro-batches."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from agents.components.catalogue import OpenComponent
from agents.components.running import Transformed, transform
from models.component import Batch
from topics.records import Bools, BytesColumn, Ints, ModelRef


class Note(Protocol):
    """Told that a model has dealt with its first rows of a partition."""

    def __call__(self, model: ModelRef, partition: int, offset: int, *, takes_over: bool) -> None:
        """*takes_over*: another one has dealt with those before, in this worker."""


class Challenge(NamedTuple):
    """A model that runs beside the champion."""

    opened: OpenComponent
    share: float
    """Share of the keys that it decides for; 0 for a shadow."""


class Slot:
    """Holds the champion and, at times, a challenger. Assigned to by the event loop alone."""

    def __init__(self, champion: OpenComponent, challenge: Challenge | None = None) -> None:
        self.champion = champion
        self.challenge = challenge
        self.note: Note | None = None
        self._last: dict[int, ModelRef] = {}

    def written(self, model: ModelRef, partition: int, first_offset: int) -> None:
        """Rows of a partition that *model* has made are on the broker."""
        before = self._last.get(partition)
        if before != model:
            self._last[partition] = model
            if self.note is not None:
                self.note(model, partition, first_offset, takes_over=before is not None)


@dataclass(frozen=True, slots=True)
class Made:
    """What a model makes of N rows."""

    model: ModelRef
    done: Transformed
    beside: Beside | None = None

    def picked(self, rows: Ints) -> Made:
        """Some rows (N), in ascending order."""
        beside = self.beside and self.beside._replace(done=self.beside.done.picked(rows))
        return Made(self.model, self.done.picked(rows), beside)

    def changed(self, change: Callable[[Transformed], Transformed]) -> Made:
        """The same with *change* made to both models' outputs."""
        beside = self.beside and self.beside._replace(done=change(self.beside.done))
        return Made(self.model, change(self.done), beside)


class Beside(NamedTuple):
    """What the challenger makes of the same rows."""

    model: ModelRef
    done: Transformed
    share: float


def made_by(champion: OpenComponent, challenge: Challenge | None, batch: Batch) -> Made:
    """Run one model, or both, over *batch*."""
    done = transform(champion.component, batch)
    if challenge is None:
        return Made(champion.model, done)
    opened, share = challenge
    return Made(
        champion.model, done, Beside(opened.model, transform(opened.component, batch), share)
    )


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


def exchanged(
    made: Made, chosen: Bools
) -> tuple[tuple[Transformed, Bools], tuple[Transformed, Bools]]:
    """The outputs that are used and those that are not, each with which rows the challenger made.

    *chosen* are the rows (N,) that the challenger is to decide. It decides none that it has no
    output for, and none at all if its outputs have another width than the champion's.
    """
    if made.beside is None:
        raise ValueError("there is no challenger")
    ours, theirs = _of_one_width(made.done, made.beside.done)
    if ours.output.shape[1] != theirs.output.shape[1]:
        chosen = np.zeros_like(chosen)
        return (ours, chosen), (theirs, ~chosen)
    chosen = chosen & theirs.present
    return (_either(theirs, ours, chosen), chosen), (_either(ours, theirs, chosen), ~chosen)


def _of_one_width(first: Transformed, second: Transformed) -> tuple[Transformed, Transformed]:
    """The same; one without any output takes the width of the other."""
    width = first.output.shape[1] if first.present.any() else second.output.shape[1]
    found = [
        done if done.present.any() else replace(done, output=np.zeros((len(done.present), width)))
        for done in (first, second)
    ]
    return found[0], found[1]


def _either(first: Transformed, second: Transformed, chosen: Bools) -> Transformed:
    """Rows of *first* where chosen, of *second* elsewhere."""
    errors = {row: why for row, why in first.errors.items() if chosen[row]}
    errors |= {row: why for row, why in second.errors.items() if not chosen[row]}
    return Transformed(
        np.where(chosen, first.present, second.present),
        np.where(chosen[:, None], first.output, second.output),
        np.where(chosen, first.signal, second.signal),
        errors,
    )
