"""Which decisions are explored: taken otherwise than by the score, so that outcomes become known.

Of what is declined no outcome comes, so nothing can be learned there but by trying. Of the rows
that a policy's `explore:` applies to a stated share gets the other decision, and all of them say
with which probability (*propensity*) they got theirs: whoever weighs outcomes by 1 / propensity has
those of all of them (Horvitz and Thompson, J. Am. Stat. Assoc. 47, 1952; for logged decisions
Bottou et al., J. Mach. Learn. Res. 14, 2013).

Chance is a keyed hash of the source coordinates (BLAKE2b, RFC 7693), so it is the same again in a
replay, by any worker, in any batch, and nothing of the event itself can steer it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

from topics.errors import AnabranchError
from topics.pipeline import Explore, Pipeline, Policy
from topics.records import Bools, Ints, Rows, source_id

_ALL = 2**64


class FieldsNotSent(AnabranchError):
    """A policy explores by event fields that do not travel to the weighting agent."""

    def __init__(self, pipeline: str, fields: Sequence[str]) -> None:
        super().__init__(
            f"the policy explores up to a value of {', '.join(fields)}; the pipeline file of "
            f"{pipeline} that runs does not name it under policy: explore: up_to, so rows travel "
            "without: deploy the other file first, then promote its policy"
        )


def check_fields_sent(pipeline: Pipeline, policy: Policy) -> None:
    """Raise FieldsNotSent unless rows bring all that *policy* has to know of events."""
    sent = pipeline.policy.bounded_fields
    if unsent := [name for name in policy.bounded_fields if name not in sent]:
        raise FieldsNotSent(pipeline.name, unsent)


@dataclass(frozen=True, slots=True)
class ExploredRows:
    """What exploration makes of N rows."""

    decided: Ints
    """What is decided, by its place among the policy's decisions (N,)."""
    by_policy: Ints
    """What the policy says (N,)."""
    explorable: Bools
    """Rows of which the decision is a matter of chance (N,)."""
    explored: Bools
    """Those that got another one than the policy says (N,)."""
    share: float
    """With which probability they do."""
    of: Sequence[int]
    """Places of the decisions that are explored."""

    def said(self, names: Sequence[str]) -> dict[int, dict[str, Any]]:
        """What decision records say of it, by row; the policy's decisions are called *names*."""
        kept = {"propensity": 1 - self.share}
        explored = np.flatnonzero(self.explored).tolist()
        return dict.fromkeys(np.flatnonzero(self.explorable).tolist(), kept) | {
            row: {
                "explored": True,
                "instead_of": names[self.by_policy[row]],
                "propensity": self.share,
            }
            for row in explored
        }


class Explorer:
    """Explores the decisions about a pipeline's events as its policy says."""

    def __init__(self, explore: Explore, pipeline: str, events: str, names: Sequence[str]) -> None:
        self._explore, self._events = explore, events
        self._key = (explore.key or pipeline).encode()
        self._of = [*dict.fromkeys(names.index(name) for name in explore.of)]
        self._instead = names.index(explore.decision)
        self._below = int(explore.share * _ALL)

    def explore(self, partition: int, rows: Rows, by_policy: Ints, scored: Bools) -> ExploredRows:
        """What is decided of N *rows*, of which the policy says *by_policy* (N,).

        Only those that are decided by their score, *scored* (N,), are explored.
        """
        explorable = scored & np.isin(by_policy, self._of)
        for name, largest in self._explore.up_to.items():
            values = rows.fields.get(name)
            explorable &= False if values is None else values <= largest  # NaN is not
        explored = np.zeros(len(by_policy), np.bool_)
        places = np.flatnonzero(explorable)
        for row, offset in zip(places.tolist(), rows.offsets[places].tolist(), strict=True):
            explored[row] = self._chance(partition, offset) < self._below
        decided = np.where(explored, self._instead, by_policy)
        return ExploredRows(decided, by_policy, explorable, explored, self._explore.share, self._of)

    def _chance(self, partition: int, offset: int) -> int:
        """A number from 0 to 2**64 - 1, all of them alike often."""
        about = source_id(self._events, partition, offset).encode()
        return int.from_bytes(blake2b(about, digest_size=8, key=self._key).digest(), "big")
