"""One partition of the key of a repartitioned component: its past, and the rows that wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from agents.windows.entity_past import Past, orders_of
from agents.windows.event_time_order import BEGINNING, EventTimeOrder, Released
from agents.windows.keyed_poison_rows import KeyedTrial, Portion
from agents.windows.log_rewind import Resumption
from models.component import Column
from topics.records import Rows, StageBatch


@dataclass(slots=True)
class Shard:
    """One partition of the key."""

    past: Past
    order: EventTimeOrder
    resumption: Resumption
    written_before: int | None = None
    """Rows of records before this one have their output already."""
    next_offset: int = 0
    trial: KeyedTrial | None = None
    """Of the first rows after it was opened."""

    @property
    def resume_at(self) -> int:
        """Where the log is to be read from after a restart."""
        needed = (self.next_offset, self.order.first_held, self.order.left_at)
        return min(offset for offset in needed if offset is not None)

    def portions(self, released: Sequence[Released]) -> Iterable[Portion]:
        """How these rows are to be run on."""
        if not released:
            return ()
        return [Portion([*released])] if self.trial is None else self.trial.portions(released)

    def learn(self, batch: StageBatch) -> None:
        """Take in outcomes that were not seen before."""
        valid, rows = np.flatnonzero(batch.present), batch.rows
        reached = self.past.of(batch.topic, batch.partition)
        reached.offset = max(reached.offset, batch.covers_to)
        if not len(valid):
            return
        times = rows.event_time_ms[valid]
        reached.clock_ms = max(reached.clock_ms, int(times.max()))
        self.past.learn(
            _entities(batch), times, orders_of(batch.partition, rows.offsets[valid]),
            batch.output[valid, 0],
        )  # fmt: skip

    def observe(self, released: Sequence[Released]) -> dict[str, Column]:
        """The windowed features of all rows (N,), which are taken in in their turn."""
        clocks = np.concatenate([part.clocks_ms for part in released])
        sources = np.concatenate(
            [np.full(len(part.batch), part.batch.partition) for part in released]
        )
        rows = Rows.concat([part.batch.rows for part in released])
        present = np.concatenate([part.batch.present for part in released])
        turn = np.lexsort((rows.offsets, sources, clocks))
        turn = turn[present[turn]]
        items = [entity for part in released for entity in _all_entities(part.batch)]
        made = self.past.observe(
            [items[row] for row in turn.tolist()],
            rows.event_time_ms[turn],
            orders_of(sources[turn], rows.offsets[turn]),
            np.concatenate([part.batch.output for part in released])[turn],
        )
        columns: dict[str, Column] = {}
        for name, values in made.items():
            columns[name] = np.zeros(len(rows))
            columns[name][turn] = values
        for part in released:
            reached = self.past.of(part.batch.topic, part.batch.partition)
            reached.offset = max(reached.offset, part.batch.covers_to)
            reached.clock_ms = max(reached.clock_ms, int(part.clocks_ms.max(initial=BEGINNING)))
        return columns


def _all_entities(batch: StageBatch) -> list[str]:
    items = batch.entities.items() if batch.entities is not None else []
    return [item.decode(errors="replace") for item in items]


def _entities(batch: StageBatch) -> list[str]:
    """Whose past the valid rows are about."""
    every = _all_entities(batch)
    return [every[row] for row in np.flatnonzero(batch.present).tolist()]
