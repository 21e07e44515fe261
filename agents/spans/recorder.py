"""What components say of batches, for those of their events that are recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from topics.records import Rows, StageBatch


class RowEnd(NamedTuple):
    """How a row has ended."""

    decision: str | None
    """None for a dead letter."""
    score: float | None
    error: str | None
    """Of a dead letter: its class."""
    degraded: bool = False


class SpanRecorder(Protocol):
    """Records spans; nothing of it raises, waits, or takes more than what it is given time for.

    Times are nanoseconds since 1970.
    """

    def arrived(self, component: str, batch: StageBatch) -> None:
        """A join has got the rows of one of its inputs."""

    def processed(self, component: str, batch: StageBatch, began_ns: int) -> None:
        """A component has dealt with rows, and its output is written."""

    def sent(self, topic: str, batch: StageBatch, began_ns: int) -> None:
        """A batch is written."""

    def outgoing(self, partition: int, rows: Rows) -> Rows:
        """The same rows, with the trace contexts that their decisions pass on."""

    def ended(
        self, partition: int, rows: Rows, which: Sequence[int], began_ns: int,
        end: Callable[[int], RowEnd],
    ) -> None:  # fmt: skip
        """Rows *which* of these have ended; *end* says how, and is asked of recorded ones alone."""

    def close(self) -> None:
        """Send what there is; returns after two seconds at the latest."""


class _NoSpans:
    """Records nothing."""

    def arrived(self, component: str, batch: StageBatch) -> None:
        """Nothing."""

    def processed(self, component: str, batch: StageBatch, began_ns: int) -> None:
        """Nothing."""

    def sent(self, topic: str, batch: StageBatch, began_ns: int) -> None:
        """Nothing."""

    def outgoing(self, partition: int, rows: Rows) -> Rows:  # noqa: ARG002
        """The rows as they are: decisions pass on what their source records say."""
        return rows

    def ended(
        self, partition: int, rows: Rows, which: Sequence[int], began_ns: int,
        end: Callable[[int], RowEnd],
    ) -> None:  # fmt: skip
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


NO_SPANS: SpanRecorder = _NoSpans()
