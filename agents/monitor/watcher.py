"""What watches a pipeline's decisions, events and outcomes: the contract of a watcher.

A watcher is fed with what the monitor reads, in micro-batches, and keeps what it needs of it in
memory that is bounded. It does no I/O: what it has to say it gives as `Finding`s to `tick`, and
they are published in one transaction with the snapshots of all watchers and the positions that
these cover. So a monitor that is killed goes on where the last snapshot was, and neither counts nor
says anything twice. What changes the world (a version on the control topic) belongs into `act`,
which is called once that is on the broker; it must bear being called again.

To add one: a class that keeps this contract, and its entry in `WATCHERS` of
`agents.process.monitor_process`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from agents.monitor.decision_batch import DecisionBatch, MatchedOutcomes
from agents.monitor.decision_store import DecisionStore
from models.arrays import Ints
from models.registry import Registry
from topics.pipeline import PipelineFile
from topics.records import ControlState
from topics.settings import BrokerSettings


class MonitorTime(NamedTuple):
    """What time it is."""

    event_ms: int
    """The newest event time of the decisions that were read; -1 before the first one."""
    wall_ms: int
    """By the clock, in milliseconds since 1970."""
    caught_up: bool
    """All is read that there was a moment ago: nothing that was published is still to come."""


@dataclass(frozen=True, slots=True)
class EventBatch:
    """N valid events of one partition, in order."""

    partition: int
    offsets: Ints
    """Source offsets (N,)."""
    event_ms: Ints
    """Event times (N,)."""
    columns: Mapping[str, NDArray[Any]]
    """Event field → its values (N,), as `topics.events.DecodedEvents.columns` has them."""
    invalid: int
    """Events among the records that are none, and not among these."""

    def __len__(self) -> int:
        return len(self.offsets)


class Finding(NamedTuple):
    """What a watcher has to say: a record of `<pipeline>.monitor`."""

    kind: str
    """Of the record, such as `quality`: a field of it says so, too."""
    key: str
    """Of the record: what it is about; the newest of a key is what holds."""
    value: bytes
    """JSON."""


@dataclass(frozen=True, slots=True)
class MonitorContext:
    """What a watcher may ask."""

    file: PipelineFile
    registry: Registry
    settings: BrokerSettings
    metrics: CollectorRegistry
    """Its metrics are made in here."""
    control: Callable[[], ControlState]
    """What is in service now, by the control topic."""
    store: DecisionStore
    """The decisions of the last days, with what came true of them."""


class Watcher(Protocol):
    """Watches one thing. Its methods are called one after the other, in threads that may differ."""

    name: str
    """Of its part of the snapshots: it stays the same from version to version."""
    reads_events: bool
    """It wants events, too: otherwise `events` is not called."""

    def decisions(self, batch: DecisionBatch) -> None:
        """Take in decisions, each once, in the order of each partition."""

    def events(self, batch: EventBatch) -> None:
        """Take in events, each once, in the order of each partition."""

    def outcomes(self, matched: MatchedOutcomes) -> None:
        """Take in what came true of decisions, or was reversed."""

    def tick(self, now: MonitorTime) -> Sequence[Finding]:
        """What there is to say now; its metrics are up to date then. Called every second or so."""

    async def act(self) -> None:
        """Do what follows of what was said: called when findings and snapshots are published."""

    def snapshot(self) -> bytes:
        """All that it has to remember."""

    def restore(self, state: bytes) -> None:
        """Go on from a snapshot. Raises ValueError for one that it does not understand."""
