"""Which held-out rows models may be judged on that are not fitted here.

Figures are of what serves, on rows that it has not seen. What is fitted here has not seen the rows
held back. A model that is not (a file, an import, an older version) may have, and its figures on
them would say how well it remembers. So it is judged on rows that are later than what it is said to
be trained on, and not at all where nothing is said. The same holds for whatever reads its output,
and no weight is learned of such signals.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from models.arrays import Bools, Ints
from models.registry import ModelCard
from models.training.data import TrainingData
from models.training.splits import FEWEST_ROWS
from models.training.training_plan import TrainingPlan
from topics.pipeline import Pipeline, in_order

MAY_HAVE_SEEN = "may have seen these rows"


@dataclass(frozen=True, slots=True)
class UnseenRows:
    """What can be judged of models that are not fitted here, and on which rows."""

    rows: slice
    """The held-out rows that no model has seen of which something is said."""
    unmeasured: Mapping[str, str]
    """Component → why there are no figures of it."""
    as_they_are: Collection[str] = ()
    """Components whose own model is judged."""
    stand_ins: Collection[str] = ()
    """Those that a stand-in is judged for."""


def unseen_rows(
    pipeline: Pipeline,
    plan: TrainingPlan,
    data: TrainingData,
    data_hash: str,
    kept: Mapping[str, ModelCard],
) -> UnseenRows:
    """What can be judged of the held-out rows of *plan*, when models with the cards *kept* stay.

    Of a model that was fitted on just these data, by their *data_hash*, a stand-in is judged.
    """
    held_out = plan.blocks.held_out
    if plan.holdout:
        return UnseenRows(held_out, {}, [*kept])
    until_ms = {
        spec.name: milliseconds(spec.model.trained_until)
        for spec in pipeline.components
        if spec.model is not None and spec.model.path is not None
    }
    for name, card in kept.items():
        if name not in plan.estimators or card.data_hash != data_hash:
            until_ms[name] = milliseconds(datetime.fromisoformat(card.seen_until))
    timed = pipeline.data.published_at is None
    times = data.columns[pipeline.event.time] if timed else None
    rows, unmeasured = _measurable(pipeline, until_ms, held_out, times, data.labels)
    as_they_are = [name for name in until_ms if name not in unmeasured]
    stand_ins = [name for name in kept if name not in until_ms]
    return UnseenRows(rows, unmeasured, as_they_are, stand_ins)


def _measurable(
    pipeline: Pipeline,
    until_ms: Mapping[str, int | None],
    held_out: slice,
    times: Ints | None,
    labels: Bools,
) -> tuple[slice, dict[str, str]]:
    """The rows of *held_out* to judge on, and why there are no figures of some components.

    `until_ms` has the models that are not fitted here, and the time of the newest event that each
    may have been fitted on; None where nobody has said. `times` (N,) ascend within *held_out*;
    None for rows without.
    """
    seen = {
        name: held_out.stop if times is None or at is None else _first_after(times, held_out, at)
        for name, at in until_ms.items()
    }
    start = held_out.start
    for first in sorted({*seen.values()}):
        if _is_enough(slice(first, held_out.stop), held_out, labels):
            start = max(start, first)
    why: dict[str, str] = {}
    for name, first in seen.items():
        if first > start:
            why[name] = _why(until_ms[name], held_out.stop - first, timed=times is not None)
    return slice(start, held_out.stop), _with_readers(pipeline, why)


def may_have_seen(
    pipeline: Pipeline, until_ms: Mapping[str, int | None], first_ms: int
) -> dict[str, str]:
    """Component → why there are no figures of it on events from *first_ms* on."""
    why = {
        name: MAY_HAVE_SEEN
        for name, until in until_ms.items()
        if until is None or until >= first_ms
    }
    return _with_readers(pipeline, why)


def readers_of(pipeline: Pipeline, names: set[str]) -> set[str]:
    """*names* and every component that reads one of them, directly or not."""
    readers = set(names)
    for name in in_order(pipeline):
        if readers.intersection(pipeline.component(name).inputs):
            readers.add(name)
    return readers


def milliseconds(time: datetime | None) -> int | None:
    """Since 1970; None for None."""
    return None if time is None else int(time.timestamp() * 1000)


def rfc3339_of(ms: int) -> str:
    """A time as cards have it.

    >>> rfc3339_of(0)
    '1970-01-01T00:00:00+00:00'
    """
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def _first_after(times: Ints, rows: slice, at_ms: int) -> int:
    start: int = rows.start
    return start + int(np.searchsorted(times[rows], at_ms, side="right"))


def _is_enough(rows: slice, of: slice, labels: Bools) -> bool:
    """Whether both halves of *rows* can be judged on: both outcomes, and not just a few rows."""
    middle = (rows.start + rows.stop) // 2
    halves = [labels[rows.start : middle], labels[middle : rows.stop]]
    many = rows.stop - rows.start >= min(FEWEST_ROWS, (of.stop - of.start) // 2)
    return many and all(bool(half.any() and not half.all()) for half in halves)


def _why(until_ms: int | None, later: int, *, timed: bool) -> str:
    if until_ms is None or not timed:
        return MAY_HAVE_SEEN
    few = f"only {later:,} are" if later else "none is"
    return f"{MAY_HAVE_SEEN}: {few} later than {rfc3339_of(until_ms)}"


def _with_readers(pipeline: Pipeline, why: Mapping[str, str]) -> dict[str, str]:
    reasons = dict(why)
    for name in in_order(pipeline):
        sources = [source for source in pipeline.component(name).inputs if source in reasons]
        if name not in reasons and sources:
            first = sources[0]
            which = first if first in why else reasons[first].split()[1].rstrip(",")
            reasons[name] = f"reads {which}, which {MAY_HAVE_SEEN}"
    return reasons
