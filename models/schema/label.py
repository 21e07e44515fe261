"""Which of a label's values is the positive outcome."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from models.arrays import Bools
from models.data import Column, json_values, outcome_name
from models.errors import TooFewRows
from models.schema.errors import LabelUnusable
from models.training.splits import FEWEST_ROWS

FEWEST_OF_ONE = 10
"""Rows of each outcome, so that every block of the training gets some."""
_SHOWN = 6
_MOST_CLASSES = 20
"""More different numbers are amounts."""


@dataclass(frozen=True, slots=True)
class InferredLabel:
    """The label column, and what counts as positive in it."""

    column: str
    positive: str
    """The value as the file writes it."""
    others: tuple[str, ...]
    """The negative values."""
    plain: bool
    """Whether it needs no `positive:` in the pipeline file: 0/1, no/yes, false/true, complete."""
    known: Bools
    """The rows that have an outcome, (N,)."""
    outcomes: Bools
    """Whether a row is positive, (N,); False where unknown."""
    reason: str
    """Why this value is the positive one."""

    @property
    def positives(self) -> int:
        """Rows that are positive."""
        return int(self.outcomes.sum())


def infer_label(column: str, values: Column, positive: str | None) -> InferredLabel:
    """The outcomes of *values* (N,); `positive` is the user's choice, or None.

    Raises LabelUnusable and TooFewRows.
    """
    shown = json_values(values)
    names = [outcome_name(value) for value in shown]
    counts = Counter(name for name in names if name is not None)
    written = {name: str(value) for name, value in zip(names, shown, strict=True) if name}
    _check(column, counts, written, positive)
    chosen, reason = _chosen(counts, positive)
    known = np.array([name is not None for name in names], dtype=np.bool_)
    outcomes = np.array([name == chosen for name in names], dtype=np.bool_)
    if known.sum() < FEWEST_ROWS:
        raise TooFewRows(int(known.sum()), FEWEST_ROWS)
    for count in (int(outcomes.sum()), int(known.sum() - outcomes.sum())):
        if count < FEWEST_OF_ONE:
            raise LabelUnusable(
                column, f"has one outcome in only {count} rows",
                f"give rows until each outcome has at least {FEWEST_OF_ONE}",
            )  # fmt: skip
    others = tuple(written[name] for name in counts if name != chosen)
    plain = chosen == "true" and set(counts) == {"true", "false"} and bool(known.all())
    return InferredLabel(column, written[chosen], others, plain, known, outcomes, reason)


def _check(
    column: str, counts: Counter[str], written: dict[str, str], positive: str | None
) -> None:
    some = ", ".join(repr(written[name]) for name, _ in counts.most_common(_SHOWN))
    more = ", …" if len(counts) > _SHOWN else ""
    if not counts:
        raise LabelUnusable(column, "is empty", "name the column with the outcome by --label")
    if len(counts) == 1:
        raise LabelUnusable(
            column, f"has one value only, {some}", "give rows of both outcomes, or another --label"
        )
    if positive is not None and outcome_name(positive) not in counts:
        raise LabelUnusable(
            column, f"has no value {positive!r}", f"give --positive one of {some}{more}"
        )
    if positive is None and len(counts) > _MOST_CLASSES and all(map(_is_number, counts)):
        raise LabelUnusable(
            column, f"has {len(counts):,} different numbers, {some}{more}",
            "a pipeline tells two outcomes apart and learns no amounts: give a column that says "
            "whether the amount is too high, 0 or 1, as --label",
        )  # fmt: skip
    if positive is None and len(counts) > 2:
        raise LabelUnusable(
            column, f"has {len(counts)} values, {some}{more}",
            "a pipeline tells two outcomes apart: give --positive VALUE to tell that one from all "
            "others (one pipeline for each that matters), or another --label",
        )  # fmt: skip


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return name in ("true", "false")
    return True


def _chosen(counts: Counter[str], positive: str | None) -> tuple[str, str]:
    if positive is not None:
        return str(outcome_name(positive)), "as --positive says"
    if "true" in counts and not {"false", "-1"}.isdisjoint(counts):
        return "true", "it means yes"
    if "false" in counts:
        return next(name for name in counts if name != "false"), "the other one means no"
    (_, most), (rarer, least) = counts.most_common()
    why = "the rarer one" if least < most else "the later one in the file, both are as frequent"
    return rarer, f"{why}; --positive for the other"
