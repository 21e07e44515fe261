"""The accounts of an audit: what was read of each partition, and what could not be.

Where the events end is asked for first, then the same of the decisions, then of the dead letters,
and each partition is read exactly so far. So the end of an event that was read is among what was
read, if it has one in front of a later decision.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka.structs import TopicPartition

from agents.audit.end_batches import Ends, ends_of
from agents.audit.ledger import Account, Ledger, PartitionView
from agents.broker import RecordBatch
from topics.pipeline import Topology

Offsets = Mapping[TopicPartition, int]
SLACK = 2**17
"""So many source offsets may one topic of a partition be read ahead of the others."""
_AHEAD = 10_000_000
"""So many events may come between asking where they end and reading how they ended."""


@dataclass(slots=True)
class _Topic:
    """How far a partition of a topic was read."""

    position: int
    frontier: int = -1
    """The last source offset read, or read about."""
    removed: int = 0
    """Offsets that hold no record, though they are neither a transaction's nor before the first."""
    missing: tuple[int, int] | None = None
    """Source offsets whose ends may have been in front of the first record that was there; its end
    is known once an end behind it is."""
    anew: bool = False
    """It ends before what was read: it is another topic, and is not read on."""


@dataclass(slots=True)
class _Partition:
    """What is known of the source records of a partition but what the ledger knows."""

    gone: list[tuple[int, int]] = field(default_factory=list)
    unseen: list[tuple[int, int]] = field(default_factory=list)
    ends_gone: int = 0
    """Records that the ends' topics held before what was read of them."""
    gaps: bool = False
    strange: int = 0
    far: int = -1
    """The highest source offset of an end that is about no event, nor one that could have come."""


class PartitionAccounts:
    """A ledger, and where in each partition it can be complete at all."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self.ledger = Ledger()
        self._topics: dict[TopicPartition, _Topic] = {}
        self._partitions: dict[int, _Partition] = {}
        self._ends: dict[TopicPartition, int] = {}

    # -- what is read

    def add(self, firsts: Offsets) -> None:
        """Read these partitions too, from the first offsets on that the broker has."""
        for tp, first in firsts.items():
            self._topics[tp] = _Topic(first)
            self._partitions.setdefault(tp.partition, _Partition())
            if first:
                self._drop(tp, 0, first)

    def know(self, ends: Offsets) -> None:
        """Where partitions end now; they are read to there."""
        for tp, end in ends.items():
            self._ends[tp] = end
            self._topics[tp].anew |= end < self._topics[tp].position

    def ends(self, topic: str) -> dict[TopicPartition, int]:
        """Where the partitions of a topic were last known to end."""
        return {tp: end for tp, end in self._ends.items() if tp.topic == topic}

    def pending(self, numbers: Container[int] | None = None) -> dict[TopicPartition, int]:
        """Positions of the partitions that are to be read on, each in step with its others."""
        unread = {
            tp: topic
            for tp, topic in self._topics.items()
            if (numbers is None or tp.partition in numbers)
            and not topic.anew
            and topic.position < self._ends.get(tp, 0)
        }
        last: dict[int, int] = {}
        for tp, topic in unread.items():
            last[tp.partition] = min(last.get(tp.partition, topic.frontier), topic.frontier)
        return {
            tp: topic.position
            for tp, topic in unread.items()
            if topic.frontier <= last[tp.partition] + SLACK
        }

    def dropped(self, tp: TopicPartition, first: int, end: int) -> None:
        """The broker has nothing at the position any more: its first is now *first*."""
        topic = self._topics[tp]
        if end < topic.position:
            topic.anew = True
        elif first > topic.position:
            self._drop(tp, topic.position, first)
            topic.position = first

    def _drop(self, tp: TopicPartition, start: int, first: int) -> None:
        partition, topic = self._partitions[tp.partition], self._topics[tp]
        if tp.topic == self._topology.events:
            partition.gone.append((start, first))
            return
        partition.ends_gone += first - start
        if topic.missing is None:
            topic.missing = (topic.frontier + 1, 2**63)

    def take(self, tp: TopicPartition, batches: Iterable[RecordBatch]) -> list[Ends]:
        """Enter what was read of a partition, up to its end; the ends that were in it."""
        topic, end = self._topics[tp], self._ends[tp]
        read = list[Ends]()
        for batch in batches:
            if batch.next_offset <= topic.position:
                continue
            topic.removed += max(0, min(batch.offset, end) - topic.position)
            if batch.offset < end:
                if tp.topic == self._topology.events:
                    self._enter(tp, topic, batch, end)
                elif batch.count:
                    read.append(self._end(tp, topic, batch, end))
            topic.position = min(batch.next_offset, end)
            if topic.position == end:
                break
        return read

    def _enter(self, tp: TopicPartition, topic: _Topic, batch: RecordBatch, end: int) -> None:
        start, stop = max(batch.offset, topic.position), min(batch.next_offset, end)
        topic.frontier = stop - 1
        if not batch.count:
            self._partitions[tp.partition].gaps = True
        elif batch.dense:
            self.ledger.enter(tp.partition, range(start, stop))
        else:
            offsets = [record.offset for record in batch.records()]
            offsets = [offset for offset in offsets if start <= offset < stop]
            topic.removed += stop - start - len(offsets)
            self.ledger.enter(tp.partition, offsets)

    def _end(self, tp: TopicPartition, topic: _Topic, batch: RecordBatch, end: int) -> Ends:
        decisions, partition = tp.topic == self._topology.decisions, self._partitions[tp.partition]
        ends = ends_of(
            batch, tp, self._topology.events, decisions=decisions, start=topic.position, end=end
        )
        partition.strange += ends.strange
        most = self._ends.get(TopicPartition(self._topology.events, tp.partition), 0) + _AHEAD
        credible = ends.sources < most
        if not credible.all():
            partition.far = max(partition.far, int(ends.sources.max()))
            ends = ends._replace(offsets=ends.offsets[credible], sources=ends.sources[credible])
        write = self.ledger.decide if decisions else self.ledger.bury
        write(tp.partition, ends.sources)
        for source, attempt in ends.later:
            self.ledger.end_again(tp.partition, source, attempt, decided=decisions)
        if len(ends.sources):
            if topic.missing is not None:
                self._close(partition, topic, int(ends.sources[0]))
            topic.frontier = max(topic.frontier, int(ends.sources.max()))
        return ends

    def _close(self, partition: _Partition, topic: _Topic, first: int) -> None:
        if topic.missing is not None and first > topic.missing[0]:
            partition.unseen.append((topic.missing[0], min(first, topic.missing[1])))
        topic.missing = None

    # -- what comes of it

    def bound_missing(self, events: Offsets) -> None:
        """Ends that are gone were about events before these ends: more had not come by then."""
        for tp, topic in self._topics.items():
            at = TopicPartition(self._topology.events, tp.partition)
            if topic.missing is not None and topic.missing[1] > events.get(at, 0):
                topic.missing = (topic.missing[0], events.get(at, 0))

    def numbers(self) -> list[int]:
        """The partitions."""
        return sorted(self._partitions)

    def account(self, number: int, read_to: int | None, ended_to: int) -> Account:
        """How the records of a partition stand; see `agents.audit.ledger.PartitionView`."""
        known = self._partitions[number]
        missing = [
            t.missing for tp, t in self._topics.items() if tp.partition == number and t.missing
        ]
        view = PartitionView(
            known.gone, [*known.unseen, *missing], known.ends_gone, known.gaps, read_to, ended_to
        )
        return self.ledger.account(number, view)

    def first_seen(self, number: int) -> int:
        """The first source offset that was read, or would be."""
        return max((end for _, end in self._partitions[number].gone), default=0)

    def gone_behind(self) -> dict[int, int]:
        """Partitions in which records are gone behind the last decision: in flight, or unread.

        With the last source offset of each that has an end.
        """
        return {
            number: self._last_end(number)
            for number in self.numbers()
            if self.first_seen(number) > self.ledger.last_decided(number) + 1
        }

    def _last_end(self, number: int) -> int:
        return max(
            (
                topic.frontier
                for tp, topic in self._topics.items()
                if tp.partition == number and tp.topic != self._topology.events
            ),
            default=-1,
        )

    def far_ends(self, events: Offsets) -> dict[int, int]:
        """Partition → the highest source offset that has an end, where the events end before it."""
        tops: dict[int, int] = {}
        for number, partition in self._partitions.items():
            at = TopicPartition(self._topology.events, number)
            top = max(partition.far, self._last_end(number))
            if top >= events.get(at, 0):
                tops[number] = top
        return tops

    def strange(self) -> int:
        """Records of the ends' topics that are none of this pipeline's."""
        return sum(partition.strange for partition in self._partitions.values())

    def removed(self, topic: str) -> int:
        """Offsets in the middle of a topic that hold no record any more."""
        return sum(t.removed for tp, t in self._topics.items() if tp.topic == topic)

    def made_anew(self) -> Sequence[TopicPartition]:
        """Partitions that end before what was read of them."""
        return [tp for tp, topic in self._topics.items() if topic.anew]

    def written(self, topic: str) -> int:
        """Records that were ever written to a topic, by its ends."""
        return sum(end for tp, end in self._ends.items() if tp.topic == topic)
