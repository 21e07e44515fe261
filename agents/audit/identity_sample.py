"""Whether decisions are about the events that stand at their coordinates now: by a sample.

A topic that is deleted and made anew begins at offset 0 again. Once it has grown beyond its old
end, its first events look decided: by decisions about events that are no more. So of each partition
the first decided events that are there are compared with their decisions, and a few others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, NamedTuple

import orjson
from aiokafka.structs import TopicPartition

from agents.audit.end_batches import Ends
from agents.broker import LogReader
from topics.pipeline import Topology

_FIRST, _OTHERS = 2, 3
_TRIES = 5


class Pair(NamedTuple):
    """A decision and its event, by their offsets."""

    source: int
    decision: int


class Mismatch(NamedTuple):
    """A decision about another event than the one that is there."""

    partition: int
    source: int
    decision: int
    reason: str


@dataclass(slots=True)
class _Sample:
    first: list[Pair] = field(default_factory=list)
    others: list[Pair] = field(default_factory=list)
    seen: int = 0


class IdentitySample:
    """Decisions to look at again, and what comes of it."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._samples: dict[int, _Sample] = {}
        self._random = Random(0)  # noqa: S311  # a sample, no secret

    def offer(self, partition: int, ends: Ends, first: int) -> None:
        """Perhaps keep some of these decisions; the events topic begins at *first*."""
        sample = self._samples.setdefault(partition, _Sample())
        there = (ends.sources >= first).nonzero()[0]
        if not len(there):
            return
        sample.first = [pair for pair in sample.first if pair.source >= first]
        for at in there[: _FIRST - len(sample.first)].tolist():
            sample.first.append(Pair(int(ends.sources[at]), int(ends.offsets[at])))
        at = int(there[self._random.randrange(len(there))])
        pair = Pair(int(ends.sources[at]), int(ends.offsets[at]))
        sample.seen += 1
        if len(sample.others) < _OTHERS:
            sample.others.append(pair)
        elif (place := self._random.randrange(sample.seen)) < _OTHERS:
            sample.others[place] = pair

    async def mismatches(self, reader: LogReader) -> list[Mismatch]:
        """Those of the sample that are about another event. Raises KafkaError."""
        mismatches: list[Mismatch] = []
        rounds = max((len(s.first) + len(s.others) for s in self._samples.values()), default=0)
        for number in range(rounds):
            pairs = {
                partition: [*sample.first, *sample.others][number]
                for partition, sample in self._samples.items()
                if number < len(sample.first) + len(sample.others)
            }
            mismatches += [one async for one in self._compared(reader, pairs)]
        return mismatches

    async def _compared(self, reader: LogReader, pairs: Mapping[int, Pair]) -> Any:
        topics = self._topology.events, self._topology.decisions
        events = await _records(reader, topics[0], {p: pair.source for p, pair in pairs.items()})
        ends = await _records(reader, topics[1], {p: pair.decision for p, pair in pairs.items()})
        for partition, pair in pairs.items():
            if partition in events and partition in ends:
                reason = difference(events[partition], ends[partition])
                if reason:
                    yield Mismatch(partition, pair.source, pair.decision, reason)


async def _records(reader: LogReader, topic: str, offsets: Mapping[int, int]) -> dict[int, Any]:
    """The records at these offsets, by partition; without those that are gone."""
    records: dict[int, Any] = {}
    wanted = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
    for _ in range(_TRIES):
        if not wanted:
            break
        for tp, result in (await reader.fetch(wanted)).items():
            for batch in result.batches:
                if batch.offset <= wanted[tp] < batch.next_offset:
                    for record in batch.records():
                        if record.offset == wanted[tp]:
                            records[tp.partition] = record
            if result.batches or result.dropped:
                del wanted[tp]
    return records


def difference(event: Any, decision: Any) -> str:
    """Why a decision record is not about this event record; empty where it may be."""
    try:
        content = orjson.loads(decision.value)
        decided_ms = round(datetime.fromisoformat(content["decided_at"]).timestamp() * 1000)
        latency_ms, event_id = int(content["latency_ms"]), str(content["event_id"])
    except (ValueError, KeyError, TypeError):
        return ""
    # A latency is never below 0, where the clocks of two machines differ.
    published_ms = decided_ms - latency_ms
    if event.timestamp != published_ms and (latency_ms > 0 or event.timestamp < published_ms):
        return (
            f"its event {event_id!r} was published at {_time(published_ms)}, the one that is there "
            f"at {_time(event.timestamp)}"
        )
    ids = list(_texts(event.value))
    if ids and event_id not in ids:
        return f"its event was {event_id!r}, the one that is there has no such field"
    return ""


def _texts(value: bytes | None) -> Iterator[str]:
    """All that may be the id of an event, also inside a CloudEvent; nothing for no event."""
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return
    for content in (event, event.get("data") if isinstance(event, dict) else None):
        if isinstance(content, dict):
            for one in content.values():
                yield str(one)
                if isinstance(one, float) and one.is_integer():
                    yield str(int(one))  # an integer field may be written 7.0


def _time(milliseconds: int) -> str:
    return (
        datetime.fromtimestamp(milliseconds / 1000).astimezone().isoformat(timespec="milliseconds")
    )
