"""Quarantine: a component that errs, or says the same of every row, loses its weight for a time.

A stage is held against two rules, on blocks of `rows` decided rows of which it was not down or late
(those are no errors of its own, and a join deals with them by itself):

- *failed*: it was absent from at least the share `failed` of a block, because it had failed;
- *constant*: it has said one value, to the bit, of at least `rows` rows in a row of blocks, where
  earlier rows had others. A rule that hardly ever fires says one value for long, too. So the value
  must also be one that so many rows would not have in common by chance: its share q among REFERENCE
  earlier rows, taken at its upper limit of 95 % (the rule of three where all had another), to the
  power of the rows, below CHANCE. A stage whose REFERENCE rows were all the same is never constant.

It is restored by hysteresis: after `restore_blocks` blocks one after the other in which it has
failed on at most a quarter of that share and has said different values. Each time it is taken
within REPEAT_BLOCKS blocks of being restored, twice as many blocks are needed, up to 16 times.

A signal that drifts is not quarantined, however far: it may see something real.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from models.arrays import Bools, Floats32, Floats64

REFERENCE = 1000
"""Rows whose values say what is usual of a stage."""
CHANCE = 1e-9
REPEAT_BLOCKS = 20
_MOST_TIMES = 16

Reason = Literal["failed", "constant"]


@dataclass(frozen=True, slots=True)
class QuarantineRule:
    """When a stage is taken, and when it is restored."""

    rows: int
    failed: float
    restore_blocks: int


@dataclass(frozen=True, slots=True)
class StageRows:
    """What one stage has said of N decided rows, without those of which it was down or late."""

    signals: Floats32
    """(N,); means nothing where it failed."""
    failed: Bools
    """(N,)."""


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """A stage that has been taken, or restored."""

    stage: str
    reason: Reason | None
    """None for one that is restored."""
    rows: int
    """On which it was judged."""
    words: str
    """For people."""


class _StageState(BaseModel):
    """What is known of one stage; all of it bounded."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    reference: Annotated[list[float], Field(max_length=REFERENCE)] = []
    rows: int = 0
    """Of the block that is open."""
    failed: int = 0
    lowest: float | None = None
    """Of the signals of the open block; None while there are none."""
    highest: float | None = None
    constant: float | None = None
    """What all rows of the last blocks had in common."""
    constant_rows: int = 0
    taken: Reason | None = None
    good_blocks: int = 0
    """One after the other, while it is taken; since it was restored, otherwise."""
    times: int = 1
    """How many times `restore_blocks` it takes."""


_STATES = TypeAdapter(dict[str, _StageState])


class Quarantine:
    """Watches the stages of one pipeline."""

    def __init__(self, stages: Sequence[str], rule: QuarantineRule) -> None:
        self._rule = rule
        self._states = {stage: _StageState() for stage in stages}

    @property
    def taken(self) -> dict[str, Reason]:
        """The stages that are to weigh nothing, each with why."""
        return {name: each.taken for name, each in self._states.items() if each.taken is not None}

    def observe(self, rows: Mapping[str, StageRows]) -> list[StageVerdict]:
        """Take in what stages have said; the verdicts that come of it, in the order of blocks."""
        verdicts: list[StageVerdict] = []
        for stage, said in rows.items():
            state, start = self._states[stage], 0
            while start < len(said.failed):
                stop = min(len(said.failed), start + self._rule.rows - state.rows)
                _take_in(state, said.signals[start:stop], said.failed[start:stop])
                start = stop
                if state.rows == self._rule.rows:
                    verdict = self._judge(stage, state)
                    verdicts += [] if verdict is None else [verdict]
        return verdicts

    def _judge(self, stage: str, state: _StageState) -> StageVerdict | None:
        """Close the block that is open."""
        rule, failed = self._rule, state.failed / state.rows
        if state.lowest is not None:
            if state.lowest != state.highest or state.lowest != state.constant:
                state.constant_rows = 0
            state.constant = state.lowest if state.lowest == state.highest else None
            state.constant_rows += 0 if state.constant is None else state.rows - state.failed
        is_constant = state.constant is not None and _beyond_chance(
            state.reference, state.constant, state.constant_rows
        )
        good = failed <= rule.failed / 4 and state.lowest is not None and not is_constant
        rows, state.rows, state.failed, state.lowest, state.highest = state.rows, 0, 0, None, None
        if state.taken is None:
            state.good_blocks = state.good_blocks + 1 if good else 0
            reason: Reason | None = None
            if failed >= rule.failed:
                reason, words = "failed", f"failed on {failed:.0%} of {rows:,} rows"
            elif is_constant and state.constant_rows >= rule.rows:
                reason, rows = "constant", state.constant_rows
                words = f"said {state.constant:g} of each of {rows:,} rows"
            if reason is None:
                if state.good_blocks > REPEAT_BLOCKS:
                    state.times = 1
                return None
            state.taken, state.good_blocks = reason, 0
            return StageVerdict(stage, reason, rows, f"{stage} {words}")
        state.good_blocks = state.good_blocks + 1 if good else 0
        needed = rule.restore_blocks * state.times
        if state.good_blocks < needed:
            return None
        state.taken, state.good_blocks = None, 0
        state.times = min(_MOST_TIMES, state.times * 2)
        rows = needed * rule.rows
        return StageVerdict(stage, None, rows, f"{stage} has answered {rows:,} rows as it should")

    def to_bytes(self) -> bytes:
        """All that is known, as JSON: the same bytes for the same state."""
        return _STATES.dump_json(self._states)

    @classmethod
    def from_bytes(cls, content: bytes, stages: Sequence[str], rule: QuarantineRule) -> Self:
        """What `to_bytes` wrote; stages that it does not know begin anew.

        ValueError for anything else.
        """
        try:
            states = _STATES.validate_json(content)
        except ValidationError as exc:
            raise ValueError(f"no state of a quarantine: {str(exc).splitlines()[0]}") from exc
        quarantine = cls(stages, rule)
        for stage in quarantine._states.keys() & states.keys():
            if states[stage].rows < rule.rows:  # a block may have been longer than it is now
                quarantine._states[stage] = states[stage]
        return quarantine


def _take_in(state: _StageState, signals: Floats32, failed: Bools) -> None:
    state.rows += len(failed)
    state.failed += int(failed.sum())
    said = signals[~failed]
    if not len(said):
        return
    state.reference += said[: REFERENCE - len(state.reference)].tolist()
    low, high = float(said.min()), float(said.max())
    state.lowest = low if state.lowest is None else min(low, state.lowest)
    state.highest = high if state.highest is None else max(high, state.highest)


def _beyond_chance(reference: Sequence[float], value: float, rows: int) -> bool:
    """Whether so many rows would hardly all have that value, going by those of the reference."""
    n, same = len(reference), sum(1 for each in reference if each == value)
    if same == n:
        return False
    # Upper limit of a share at 95 %: 3/n for none of n (rule of three); Wald's for others.
    share = same / n
    upper = share + max(3 / n, 1.645 * np.sqrt(share * (1 - share) / n))
    return upper < 1 and bool(rows * np.log(upper) < np.log(CHANCE))


def without_quarantined(
    alpha: Floats64, names: Sequence[str], labelled: Bools, taken: Iterable[str]
) -> tuple[Floats64, list[str]]:
    """The weights (S,) without those *taken* of the stages, and which of them these are.

    The last stage that has a weight and was fitted on labels (S,) keeps it, whatever it does: a
    score would rest on nothing. Of several, those later in *names* are kept.

    >>> both = np.array([True, True])
    >>> without_quarantined(np.array([0.5, 0.5]), ["a", "b"], both, ["a", "b"])
    (array([0., 1.]), ['a'])
    """
    lowered, out = alpha.copy(), list[str]()
    wanted = set(taken)
    for at, name in enumerate(names):
        if name not in wanted:
            continue
        rest = lowered.copy()
        rest[at] = 0.0
        must = labelled if (labelled & (alpha > 0)).any() else np.ones_like(labelled)
        if rest[must].sum() > 0:
            lowered = rest
            out.append(name)
    normalised: Floats64 = lowered / lowered.sum()
    return (alpha if not out else normalised), out
