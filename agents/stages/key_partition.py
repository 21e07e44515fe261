"""One partition of the key of a repartitioned component: its past, and the rows that wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from agents.recovery import KeyedPoisonRows, LogRewind, Portion
from agents.windows import BEGINNING, DueRows, EntityPast, EventTimeOrder, orders_of
from models.component import Column
from topics.records import Rows, StageBatch


@dataclass(slots=True)
class KeyPartition:
    """One partition of the key."""

    past: EntityPast
    order: EventTimeOrder
    rewind: LogRewind
    written_before: int | None = None
    """Rows of records before this one have their output already; None before the first record."""
    next_offset: int = 0
    """Of its log: what is to be read next."""
    poison_rows: KeyedPoisonRows | None = None
    """Among the first rows after it was opened; None once these are behind it."""

    @property
    def resume_at(self) -> int:
        """Where the log is to be read from after a restart."""
        needed = (self.next_offset, self.order.first_held, self.order.left_at)
        return min(offset for offset in needed if offset is not None)

    def portions(self, due: Sequence[DueRows]) -> Iterable[Portion]:
        """How these rows are to be run on."""
        if not due:
            return ()
        if self.poison_rows is None:
            return [Portion([*due])]
        return self.poison_rows.portions(due)

    def is_written(self, due: DueRows) -> bool:
        """They have their output already: they are taken in again, and that is all."""
        return due.position < (self.written_before or 0)

    def learn(self, batch: StageBatch) -> None:
        """Take in outcomes that were not seen before."""
        valid, rows = np.flatnonzero(batch.present), batch.rows
        reached = self.past.progress_of(batch.topic, batch.partition)
        reached.offset = max(reached.offset, batch.covers_to)
        if not len(valid):
            return
        times = rows.event_time_ms[valid]
        reached.clock_ms = max(reached.clock_ms, int(times.max()))
        self.past.learn(
            _entities(batch), times, orders_of(batch.partition, rows.offsets[valid]),
            batch.output[valid, 0],
        )  # fmt: skip

    def observe(self, due: Sequence[DueRows]) -> dict[str, Column]:
        """The windowed features of all rows (N,), which are taken in in their turn."""
        clocks = np.concatenate([part.clocks_ms for part in due])
        sources = np.concatenate([np.full(len(part.batch), part.batch.partition) for part in due])
        rows = Rows.concat([part.batch.rows for part in due])
        present = np.concatenate([part.batch.present for part in due])
        turn = np.lexsort((rows.offsets, sources, clocks))
        turn = turn[present[turn]]
        entities = [entity for part in due for entity in _all_entities(part.batch)]
        windowed = self.past.observe(
            [entities[row] for row in turn.tolist()],
            rows.event_time_ms[turn],
            orders_of(sources[turn], rows.offsets[turn]),
            np.concatenate([part.batch.output for part in due])[turn],
        )
        columns: dict[str, Column] = {}
        for name, values in windowed.items():
            columns[name] = np.zeros(len(rows))
            columns[name][turn] = values
        for part in due:
            reached = self.past.progress_of(part.batch.topic, part.batch.partition)
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
