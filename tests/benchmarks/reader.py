"""Reading what a peer has written until every event has its output."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import compress

from tests.benchmarks.broker import Late, Outputs
from tests.benchmarks.check import Checker, Tally, Wrong


@dataclass(slots=True)
class Reader:
    """Checks outputs; knows when the last one that was needed was appended."""

    outputs: Outputs
    checker: Checker
    tally: Tally
    last_ms: int = 0
    """By the broker's clock, in milliseconds since 1970."""
    first_ms: dict[int, int] = field(default_factory=dict)
    """Event → when its first output was appended."""

    async def complete(self) -> bool:
        """Read on; True when every event has as many outputs as it was published times.

        Raises Wrong for an output that is wrong.
        """
        async for records in self.outputs.read():
            if records[-1].timestamp_type != 1:
                raise Wrong("the output topic does not have the broker's times")
            numbers = self.checker.look(records)
            needed = self.tally.add(numbers)
            self.last_ms = max([self.last_ms, *(r.timestamp for r in compress(records, needed))])
            for number, record in zip(numbers, records, strict=True):
                self.first_ms.setdefault(number, record.timestamp)
        return self.tally.is_complete()

    async def more(self, patience_s: float) -> None:
        """Wait for another output. Raises Wrong, which says what is missing."""
        try:
            await self.outputs.wait(sum(self.tally.seen.values()) + 1, patience_s, lambda: None)
        except Late:
            self.tally.duplicates()
            raise
