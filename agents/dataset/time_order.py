"""Rows of several partitions, put together in the order of event time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.arrays import Ints

Table = Any
"""A pyarrow.Table: pyarrow has no types."""
_BEGINNING = -(2**62)


@dataclass(slots=True)
class _Partition:
    """What was read of a partition and has not left it yet."""

    more: Callable[[], Awaitable[Table | None]]
    """Its next rows; None behind the last."""
    rows: list[Table] = field(default_factory=list)
    reached_ms: int = _BEGINNING
    is_over: bool = False


class TimeOrder:
    """Merges partitions, each of which is nearly in order: what is late in its own stays late.

    Held are the rows of each partition that are ahead of the partition that is furthest behind.
    """

    def __init__(
        self, time: str, partitions: Sequence[Callable[[], Awaitable[Table | None]]]
    ) -> None:
        self._time = time
        self._partitions = [_Partition(more) for more in partitions]

    async def tables(self) -> AsyncIterator[Table]:
        """All rows, in tables of one time after the other."""
        while behind := [each for each in self._partitions if not each.is_over]:
            last = min(behind, key=lambda each: each.reached_ms)
            await self._read(last)
            horizon = min(
                (each.reached_ms for each in self._partitions if not each.is_over), default=None
            )
            if (table := self._up_to(horizon)) is not None:
                yield table

    async def _read(self, partition: _Partition) -> None:
        table = await partition.more()
        if table is None:
            partition.is_over = True
        elif len(table):
            partition.rows.append(table)
            partition.reached_ms = max(partition.reached_ms, int(self._times(table).max()))

    def _up_to(self, horizon_ms: int | None) -> Table | None:
        """Rows before the time that all partitions have come to; all of them for None."""
        import pyarrow as pa

        given = []
        for partition in self._partitions:
            kept = []
            for table in partition.rows:
                is_due = (
                    np.ones(len(table), np.bool_)
                    if horizon_ms is None
                    else self._times(table) < horizon_ms
                )
                if is_due.all():
                    given.append(table)
                    continue
                if is_due.any():
                    given.append(table.filter(pa.array(is_due)))
                    table = table.filter(pa.array(~is_due))  # noqa: PLW2901  # what is left of it
                kept.append(table)
            partition.rows = kept
        if not given:
            return None
        together = pa.concat_tables(given)
        return together.take(pa.array(np.argsort(self._times(together), kind="stable")))

    def _times(self, table: Table) -> Ints:
        column = table.column(self._time).cast("int64")
        times: Ints = column.to_numpy()
        return times
