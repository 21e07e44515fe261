"""The monitor's work: reads decisions, outcomes and events, and feeds its watchers with them.

What is read is taken in by the store (`agents.monitor.decision_store`), which matches outcomes with
decisions, and by each watcher. Now and then, and whenever a watcher has something to say, all of it
is written in one transaction: findings, letters of outcomes that are dead, and a snapshot of every
watcher with the positions that it covers. A monitor that starts reads the newest snapshot, fills
the store again with what waits (that is read once more, and not counted), and goes on from those
positions. So each decision and each outcome is counted once, as far as topics still have them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson
from aiokafka.structs import TopicPartition
from faust.types import TP

from agents.broker import LogReader
from agents.monitor.decision_batch import DecisionDecoder
from agents.monitor.decision_store import DecisionStore, Floors, StoreCounts
from agents.monitor.election import STATE_PARTITION
from agents.monitor.metrics import MonitorMetrics
from agents.monitor.monitor_writer import MonitorWriter, PartitionRecords
from agents.monitor.outcome_letters import refused_outcomes, unmatched_outcomes
from agents.monitor.snapshots import Manifest, Snapshot, newest_snapshot, snapshot_records
from agents.monitor.topic_feed import FetchedRecords, TopicFeed
from agents.monitor.watcher import EventBatch, Finding, MonitorTime, Watcher
from topics.events import OutcomeDecoder, SourceDecoder
from topics.kafka import Record
from topics.pipeline import Pipeline, Topology

log = logging.getLogger(__name__)

FINDINGS_PARTITION = 0
"""Of `<pipeline>.monitor`: findings are in one order."""
_TICK_S = 1.0
_SNAPSHOT_S = 10.0
_JSON = [("content-type", b"application/json")]


class MonitorWorker:
    """Reads on, from where the monitor before it has ended.

    Without *writer* nothing is written, and all is read from the beginning on.
    """

    def __init__(
        self, pipeline: Pipeline, reader: LogReader, store: DecisionStore,
        watchers: Sequence[Watcher], metrics: MonitorMetrics, writer: MonitorWriter | None = None,
        topics: Mapping[str, str] | None = None, *, snapshot_s: float = _SNAPSHOT_S,
    ) -> None:  # fmt: skip
        self._pipeline, self._topology = pipeline, Topology.of(pipeline)
        self._reader, self._store, self._watchers = reader, store, watchers
        self._metrics, self._writer = metrics, writer
        self._topics = dict(topics or {})
        self._snapshot_s = snapshot_s
        self._decisions = DecisionDecoder(pipeline)
        self._outcomes = OutcomeDecoder(pipeline)
        self._events = SourceDecoder(pipeline.event, pipeline.partitions)
        self._feed = TopicFeed(reader, {})
        self._serial = self._dead = 0
        self._letters: list[PartitionRecords] = []
        self._findings: list[Finding] = []
        self.findings: dict[str, Finding] = {}
        """The newest of each key that were said by this process."""

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        """The offset of the next record of each partition."""
        return self._feed.positions

    @property
    def has_caught_up(self) -> bool:
        """All is read that there was a moment ago."""
        return bool(self._feed.ends) and self._feed.has_caught_up

    def standing(self) -> dict[TP, tuple[int, int]]:
        """Partitions with something to read → where it is; for `agents.process.liveness`."""
        return {
            TP(tp.topic, tp.partition): (position, self._feed.ends[tp])
            for tp, position in self._feed.positions.items()
            if position < self._feed.ends.get(tp, 0)
        }

    def _read_topics(self) -> list[str]:
        topology = self._topology
        wants_events = self._pipeline.quality.segments or any(
            watcher.reads_events for watcher in self._watchers
        )
        events = [topology.events] if wants_events else []
        return [*events, topology.decisions, topology.outcomes]

    # -- starting

    async def resume(self) -> None:
        """Go to where the newest snapshot ends. Raises TopicMissing, NotAuthorized, KafkaError."""
        snapshot = await self._snapshot() if self._writer is not None else None
        manifest = Manifest(serial=0) if snapshot is None else snapshot.manifest
        stale = {
            topic for topic, known in manifest.topics.items()
            if self._topics.get(topic, known) != known
        }  # fmt: skip
        for topic in sorted(stale):
            log.warning("%s was made anew: it is read from its beginning on", topic)
        known = {
            topic: positions for topic, positions in manifest.positions.items()
            if topic not in stale
        }  # fmt: skip
        self._feed = await TopicFeed.at(self._reader, self._read_topics(), known)
        if snapshot is None:
            return
        self._serial = manifest.serial
        self._store.clock_ms = manifest.clock_ms
        if manifest.floors is not None:
            self._store.floors = Floors(*manifest.floors)
        await self._fill(manifest, known)
        self._dead = manifest.counts.get("dead", 0)
        counts = {name: manifest.counts.get(name, 0) for name in asdict(StoreCounts())}
        self._store.counts = StoreCounts(**counts)
        self._metrics.begin_at(self._store.counts, self._dead)
        for watcher in self._watchers:
            if (state := snapshot.states.get(watcher.name)) is not None:
                try:
                    await asyncio.to_thread(watcher.restore, state)
                except ValueError as exc:
                    log.warning("%s begins anew, from here on: %s", watcher.name, exc)

    async def _snapshot(self) -> Snapshot | None:
        tp = TopicPartition(self._topology.monitor_state, STATE_PARTITION)
        first = (await self._reader.bounds([tp], "first"))[tp]
        feed = TopicFeed(self._reader, {tp: first})
        await feed.look()
        records: list[Any] = []
        while not feed.has_caught_up:
            for part in await feed.fetch():
                records += part.records
        return newest_snapshot(records)

    async def _fill(self, manifest: Manifest, known: Mapping[str, Mapping[int, int]]) -> None:
        """Read what waits once more; what was said of it before is not said again."""
        started, firsts = time.monotonic(), self._feed.positions
        starts = {
            TopicPartition(topic, partition): offset
            for topic, offsets in manifest.resume.items() if topic in known
            for partition, offset in offsets.items()
        }  # fmt: skip
        starts = {tp: at for tp, at in starts.items() if tp in firsts and at < firsts[tp]}
        async for parts in self._feed.again(starts):
            await asyncio.to_thread(self._fill_with, parts)
        await asyncio.to_thread(self._store.forget)
        log.info(
            "%d decisions wait for outcomes; they were read again in %.1f s", self._store.awaiting,
            time.monotonic() - started,
        )  # fmt: skip

    def _fill_with(self, parts: Sequence[FetchedRecords]) -> None:
        for topic, partition, records in parts:
            if topic == self._topology.decisions:
                self._store.add_decisions(self._decisions.decode(records, partition))
            elif topic == self._topology.outcomes:
                self._store.add_outcomes(self._outcomes.decode(records, partition), records)
            else:
                self._keep_values(self._event_batch(records, partition))

    # -- reading on

    async def run(self, *, until_caught_up: bool = False) -> None:
        """Read on for ever, or to what is the end now. Raises MonitorReplaced, KafkaError."""
        ticked = saved = time.monotonic()
        await self._feed.look()
        while True:
            parts = await self._feed.fetch()
            if parts:
                await asyncio.to_thread(self._take, parts)
            ends = until_caught_up and self._feed.has_caught_up
            if time.monotonic() - ticked >= _TICK_S or ends:
                await self._feed.look()
                ends = until_caught_up and self._feed.has_caught_up
                await asyncio.to_thread(self._tick, until_all_is_said=ends)
                ticked = time.monotonic()
            if self._findings or ends or time.monotonic() - saved >= self._snapshot_s:
                await self.save()
                saved = time.monotonic()
            if ends:
                return

    def _take(self, parts: Sequence[FetchedRecords]) -> None:
        order = self._read_topics()
        for topic, partition, records in sorted(parts, key=lambda part: order.index(part.topic)):
            if topic == self._topology.decisions:
                batch = self._decisions.decode(records, partition)
                matched = self._store.add_decisions(batch)
                for watcher in self._watchers if len(batch) else ():
                    watcher.decisions(batch)
            elif topic == self._topology.outcomes:
                decoded = self._outcomes.decode(records, partition)
                if decoded.failures:
                    self._dead += len(decoded.failures)
                    self._letters += refused_outcomes(self._topology, decoded, records, _now_ms())
                matched = self._store.add_outcomes(decoded, records)
            else:
                events = self._event_batch(records, partition)
                self._keep_values(events)
                for watcher in self._watchers:
                    if watcher.reads_events:
                        watcher.events(events)
                continue
            if matched is not None:
                for watcher in self._watchers:
                    watcher.outcomes(matched)

    def _event_batch(self, records: Sequence[Any], partition: int) -> EventBatch:
        decoded = self._events.decode(records, partition)
        offsets = [records[row].offset for row in decoded.valid.tolist()]
        return EventBatch(
            partition, np.array(offsets, np.int64), decoded.columns[self._pipeline.event.time],
            decoded.columns, len(decoded.failures),
        )  # fmt: skip

    def _keep_values(self, events: EventBatch) -> None:
        """Keep what quality is told apart by."""
        names = self._pipeline.quality.segments
        if names and len(events):
            columns = [events.columns[name].tolist() for name in names]
            contents = [orjson.dumps(row).decode() for row in zip(*columns, strict=True)]
            self._store.add_values(events.partition, events.offsets, events.event_ms, contents)

    def _tick(self, *, until_all_is_said: bool) -> None:
        now = MonitorTime(self._store.clock_ms, _now_ms(), self._feed.has_caught_up)
        for watcher in self._watchers:
            while said := watcher.tick(now):
                self._findings += said
                if not until_all_is_said:
                    break
        self._metrics.observe_lag(self._feed.lag(), self._feed.missed)
        self._metrics.observe_store(self._store, self._decisions.foreign, self._dead)

    # -- writing

    async def save(self) -> None:
        """Write findings, letters and a snapshot, and let watchers act on what they have said."""
        parts = await asyncio.to_thread(self._parts)
        self.findings |= {each.key: each for each in self._findings}
        self._findings, self._letters = [], []
        if self._writer is None:
            return
        await self._writer.write(parts)
        self._metrics.observe_snapshot()
        for watcher in self._watchers:
            await watcher.act()

    def _parts(self) -> list[PartitionRecords]:
        now_ms, topology = _now_ms(), self._topology
        dead = self._store.forget()
        self._dead += len(dead)
        letters = [*self._letters, *unmatched_outcomes(topology, dead, now_ms)]
        findings = [Record(each.key.encode(), each.value, now_ms, _JSON) for each in self._findings]
        self._serial += 1
        states = {watcher.name: watcher.snapshot() for watcher in self._watchers}
        return [
            *letters,
            PartitionRecords(topology.monitor, FINDINGS_PARTITION, findings),
            PartitionRecords(
                topology.monitor_state, STATE_PARTITION,
                [*snapshot_records(Snapshot(self._manifest(), states), now_ms)],
            ),
        ]  # fmt: skip

    def _manifest(self) -> Manifest:
        topology, firsts = self._topology, self._store.firsts()
        positions: dict[str, dict[int, int]] = {}
        for tp, position in self._feed.positions.items():
            positions.setdefault(tp.topic, {})[tp.partition] = position
        kept = {
            topology.decisions: "decisions", topology.outcomes: "outcomes",
            topology.events: "events",
        }  # fmt: skip
        return Manifest(
            serial=self._serial, positions=positions,
            resume={topic: firsts[kept[topic]] for topic in positions},
            topics={topic: known for topic, known in self._topics.items() if topic in positions},
            clock_ms=self._store.clock_ms, floors=tuple(self._store.floors),
            counts={**asdict(self._store.counts), "dead": self._dead},
        )  # fmt: skip


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
