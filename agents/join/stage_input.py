"""What a worker's components are given: rows, and all that there is to read of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agents.join.partition_join import Joined
from agents.join.stage_rows import StageRows
from models.component import Batch
from topics.records import Failure, Ints, Rows


class Decoded(NamedTuple):
    """What a component that reads events is given of N rows."""

    batch: Batch
    """The valid events' columns."""
    valid: Ints
    """Which of the N rows they are."""
    failures: Mapping[int, Failure]
    """Why the others are not."""

    def between(self, start: int, stop: int) -> Decoded:
        """Of rows [start, stop)."""
        first, last = self.valid.searchsorted([start, stop]).tolist()
        columns = {name: column[first:last] for name, column in self.batch.columns.items()}
        failures = {
            row - start: failure._replace(row=row - start)
            for row, failure in self.failures.items()
            if start <= row < stop
        }
        return Decoded(Batch(last - first, columns), self.valid[first:last] - start, failures)


@dataclass(frozen=True, slots=True)
class Given:
    """Rows of one source partition, and what there is to read of them."""

    partition: int
    covers_from: int
    rows: Rows
    stages: Mapping[str, StageRows] = field(default_factory=dict)
    events: Decoded | None = None

    def __getitem__(self, rows: slice) -> Given:
        start, stop, _ = rows.indices(len(self.rows))
        return Given(
            self.partition,
            int(self.rows.offsets[start - 1]) + 1 if start else self.covers_from,
            self.rows[rows],
            {name: stage[rows] for name, stage in self.stages.items()},
            None if self.events is None else self.events.between(start, stop),
        )

    @classmethod
    def of(cls, partition: int, joined: Joined) -> Given:
        """Joined rows."""
        return cls(partition, joined.covers_from, joined.rows, joined.stages)
