"""Windowed features: what a pipeline file declares about an entity's past, as columns.

The same class computes them for training, over all rows, and in service, over micro-batches:
`observe` says of every event what was known when it happened, itself included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from models.arrays import Bools, Floats64, Ints
from models.component import Column
from models.features.history import Aggregate, History
from topics.events import CLOCKS_APART_MS
from topics.pipeline import OUTCOMES, Feature, Pipeline, duration_ms, reach_ms

_CHUNK_ROWS = 8192
_EXACT_BITS = 53
_FOREVER_MS = 2**60


class WindowPlan:
    """What the windowed features of one component need from an event, and from its past."""

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        features = pipeline.component(name).windowed
        self.entity = pipeline.entity(name)
        """The event field that names whose past it is."""
        self.time = pipeline.event.time
        self.fields = _fields(features)
        """Event fields whose values are kept (V)."""
        self.delay_ms = duration_ms(pipeline.outcomes.delay)
        event = pipeline.event
        ahead_ms = duration_ms(event.future) + CLOCKS_APART_MS
        self.lateness_ms = duration_ms(event.lateness) + ahead_ms
        """How far behind its entity's newest an event still counts: one that is as far ahead as it
        may be must not make those late that are in time."""
        self.memory_ms = reach_ms(pipeline, name)
        """How far back in event time an event can look."""
        self.columns = [column for feature in features for column in feature.columns]
        """The names of the features' columns (F)."""
        of_outcomes = np.array([f.of == OUTCOMES for f in features for _ in f.columns])
        self.at_events, self.at_outcomes = np.flatnonzero(~of_outcomes), np.flatnonzero(of_outcomes)
        self.of_events = [
            aggregate for f in features if f.of != OUTCOMES for aggregate in self._aggregates(f)
        ]
        self.of_outcomes = [
            aggregate for f in features if f.of == OUTCOMES for aggregate in self._aggregates(f)
        ]

    def entities(self, columns: Mapping[str, Column]) -> list[str]:
        """Whose past each row is about (N)."""
        return [str(value) for value in columns[self.entity].tolist()]

    def values(self, columns: Mapping[str, Column]) -> Floats64:
        """What is kept of each row (N, V)."""
        kept = [_numbers(columns[field]) for field in self.fields]
        return np.stack(kept, axis=1) if kept else np.zeros((len(columns[self.time]), 0))

    def _aggregates(self, feature: Feature) -> Iterator[Aggregate]:
        outcomes = feature.of == OUTCOMES
        column = 0 if outcomes else None
        if feature.of in self.fields:
            column = self.fields.index(feature.of)
        for window in feature.over or []:
            delay = self.delay_ms if outcomes else 0
            yield Aggregate(feature.apply, column, duration_ms(window), delay)  # type: ignore[arg-type]  # windowed


class Windows:
    """The past of many entities, and the features of their events."""

    def __init__(self, plan: WindowPlan, *, forget: bool = True) -> None:
        self.plan = plan
        lateness = plan.lateness_ms if forget else _FOREVER_MS
        # Outcomes come in any order: one is too late only when no window reaches it any more.
        late_outcomes = plan.memory_ms if forget else _FOREVER_MS
        self._events = History(
            width=len(plan.fields), keep_ms=plan.memory_ms + lateness, lateness_ms=lateness
        )
        self._outcomes = History(
            width=1, keep_ms=plan.memory_ms + late_outcomes, lateness_ms=late_outcomes
        )

    @property
    def histories(self) -> dict[str, History]:
        """The past, by what it is made of."""
        return {"events": self._events, "outcomes": self._outcomes}

    def observe(
        self, entities: Sequence[str], times_ms: Ints, orders: Ints, values: Floats64
    ) -> dict[str, Column]:
        """Add N events one after the other; the features' columns (N,) as each event sees them.

        `orders` tells events of one time apart; a row's features do not depend on how events
        are cut into batches.
        """
        features = np.zeros((len(entities), len(self.plan.columns)))
        if self.plan.of_events:
            features[:, self.plan.at_events] = self._events.observe(
                entities, times_ms, orders, values, self.plan.of_events
            )
        if self.plan.of_outcomes:
            features[:, self.plan.at_outcomes] = self._outcomes.look_up(
                entities, times_ms, self.plan.of_outcomes
            )
        return dict(zip(self.plan.columns, features.T, strict=True))

    def glimpses(
        self, entities: Sequence[str], times_ms: Ints, orders: Ints, values: Floats64
    ) -> dict[str, Column]:
        """The features' columns (N,) of events, each in its turn, see `History`; none is added."""
        features = np.zeros((len(entities), len(self.plan.columns)))
        if self.plan.of_events:
            features[:, self.plan.at_events] = self._events.glimpses(
                entities, times_ms, orders, values, self.plan.of_events
            )
        if self.plan.of_outcomes:
            features[:, self.plan.at_outcomes] = self._outcomes.look_up(
                entities, times_ms, self.plan.of_outcomes
            )
        return dict(zip(self.plan.columns, features.T, strict=True))

    def remembers(self, entity: str, time_ms: int) -> bool:
        """All that an event of *entity* at that time could look back to is still here."""
        for history, aggregates in (
            (self._events, self.plan.of_events), (self._outcomes, self.plan.of_outcomes),
        ):  # fmt: skip
            floor = history.floor(entity)
            reach = max(
                (aggregate.window_ms + aggregate.delay_ms for aggregate in aggregates), default=0
            )
            if floor is not None and floor > time_ms - reach:
                return False
        return True

    def learn(self, entities: Sequence[str], times_ms: Ints, orders: Ints, outcomes: Bools) -> None:
        """Take in the outcomes of events that happened at *times_ms*."""
        self._outcomes.add(entities, times_ms, orders, outcomes.astype(np.float64)[:, None])

    def disbelieve(self, after_ms: int) -> None:
        """Drop what is dated after *after_ms*: it hides all that has happened."""
        for history in self.histories.values():
            history.drop_after(after_ms)

    def forget(self, now_ms: int) -> None:
        """Give back the memory of what no event after *now_ms* (event time) can see."""
        before = now_ms - self.plan.memory_ms - self.plan.lateness_ms
        for history in self.histories.values():
            history.evict(before)


def over_all_rows(
    pipeline: Pipeline, name: str, columns: Mapping[str, Column], labels: Bools
) -> dict[str, Column]:
    """The windowed features of component *name* for N rows in time order, as serving has them."""
    plan = WindowPlan(pipeline, name)
    windows = Windows(plan, forget=False)
    entities, times, values = plan.entities(columns), columns[plan.time], plan.values(columns)
    orders = np.arange(len(times))
    parts = []
    for start in range(0, len(times), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        # Early outcomes change nothing: a window of outcomes ends before the event.
        windows.learn(entities[rows], times[rows], orders[rows], labels[rows])
        parts.append(windows.observe(entities[rows], times[rows], orders[rows], values[rows]))
    return {column: np.concatenate([part[column] for part in parts]) for column in plan.columns}


def _fields(features: Sequence[Feature]) -> list[str]:
    kept = [f.of for f in features if f.apply not in ("count", "since_last", "share")]
    return list(dict.fromkeys(kept))


def _numbers(column: Column) -> Floats64:
    """Values as float64; strings as 53 bits of their digest, to tell them apart."""
    if column.dtype != object:
        return column.astype(np.float64)
    return np.array([_digest(text) if text else np.nan for text in column.tolist()], np.float64)


def _digest(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> (64 - _EXACT_BITS)
