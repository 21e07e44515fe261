"""A range of events replayed as it was: all that decided it run again, and compared to the bit.

Partitions are read side by side. Where a component has the past of another key than the events',
always the one is read on that has come least far in event time: so no more is held of one than
waits for the others; else one partition is read after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from aiokafka.structs import ConsumerRecord, TopicPartition

from agents.replay.block_replay import BlockReplay
from agents.replay.decisions import fields_of
from agents.replay.event_columns import EventColumns, PartitionEvents, WindowColumns
from agents.replay.keyed_columns import KeyedColumns
from agents.replay.log_cursor import LogCursor, open_logs
from agents.replay.lost_events import count_lost
from agents.replay.pinned_versions import PinnedVersions, needed_by, provenance_of
from agents.replay.recorded_range import (
    BLOCK_ROWS,
    PartitionRecord,
    RecordedBlock,
    SourceRange,
    recorded_ranges,
)
from agents.replay.redriven import replay_redriven
from agents.replay.report import ReplayedRange, ReplayPart, Tally
from agents.replay.warm_up import WarmUp, warm_up_of
from agents.windows import BEGINNING
from agents.workers import TailReader
from models.registry import Registry
from topics.events import SourceDecoder
from topics.pipeline import Pipeline, PipelineFile, Topology
from topics.records import outcome_schema
from topics.settings import BrokerSettings

Progress = Callable[[int], None]
"""Told how many events are done."""


@dataclass(slots=True)
class _Source:
    """The events of one partition: before its range, in it, and behind it."""

    partition: int
    cursor: LogCursor | None
    """For what is before and behind the range; None where nothing of that is needed."""
    events: PartitionEvents
    reader: PartitionRecord | None
    until: int
    """Where the range begins; the end of what is read where there is none."""
    behind: int | None
    """Where it ends, until reading has gone on there."""
    held: deque[RecordedBlock] = field(default_factory=deque)
    """Blocks that were read ahead."""
    waiting: deque[tuple[RecordedBlock, EventColumns]] = field(default_factory=deque)
    """Blocks that lack windows of other keys."""
    warm_up: int = 0
    is_warm: bool = False
    is_over: bool = False
    """Nothing more is to be read."""

    @property
    def is_done(self) -> bool:
        """All of its range is made again, if it has any."""
        return self.reader is None and not self.waiting

    async def block(self) -> RecordedBlock | None:
        """The next of its range; None behind it."""
        if self.held:
            return self.held.popleft()
        if self.reader is None:
            return None
        block = await self.reader.block()
        if block is None:
            self.reader = None
        return block


@dataclass(slots=True)
class _Outcomes:
    """The outcomes of one partition."""

    partition: int
    cursor: LogCursor
    clock_ms: int = BEGINNING
    is_over: bool = False


class UnalteredReplay:
    """Replays ranges of one pipeline, in memory: it only reads."""

    def __init__(
        self, settings: BrokerSettings, file: PipelineFile, registry: Registry, tail: TailReader
    ) -> None:
        self._settings, self._file, self._tail = settings, file, tail
        self._topology = Topology.of(file.pipeline)
        self._pins = PinnedVersions(file, registry)
        self._tally = Tally()
        self._keyed: dict[str, KeyedColumns] = {}
        self._done = 0

    async def run(
        self, ranges: Sequence[SourceRange], progress: Progress = lambda _: None
    ) -> ReplayPart:
        """Replay *ranges*, of one partition each.

        Raises NotMadeAgain and BrokerError.
        """
        async with AsyncExitStack() as stack:
            readers = await stack.enter_async_context(
                recorded_ranges(self._settings, self._topology, ranges, self._tail)
            )
            held = {reader.range.partition: await reader.block() for reader in readers}
            pipeline = self._first_file(held).pipeline
            warm_up = await warm_up_of(self._tail, pipeline, held, ranges)
            blocks = BlockReplay(self._pins, pipeline, self._tally)
            logs = await stack.enter_async_context(
                open_logs(self._settings, warm_up.positions, await self._ends())
            )
            sources, outcomes = self._sources(pipeline, warm_up, logs, readers, held)
            await self._read(sources, outcomes, blocks, lambda: progress(self._done))
        for of in ranges:
            await count_lost(self._tail, self._topology, self._tally, of.partition)
            if of.partition in self._tally.redriven_in:
                await replay_redriven(self._tail, self._topology, self._pins, self._tally, of)
        warmed = {source.partition: source.warm_up for source in sources}
        replayed = [ReplayedRange(**of._asdict(), warm_up=warmed[of.partition]) for of in ranges]
        return ReplayPart(self._tally, replayed, dict(self._pins.named))

    def _first_file(self, held: Mapping[int, RecordedBlock | None]) -> PipelineFile:
        """The pipeline file of the first decision: events are read for its features."""
        for block in filter(None, held.values()):
            for offset, record in block.decisions.items():
                try:
                    provenance = provenance_of(fields_of(record))
                except ValueError:  # it is no decision, and will be found to be none
                    continue
                with needed_by(self._topology.events, block.partition, [offset]):
                    return self._pins.file(provenance)
        return self._file

    async def _ends(self) -> Mapping[tuple[str, int], int]:
        return await self._tail.ends(self._topology.sources, self._topology.partitions)

    def _sources(
        self, pipeline: Pipeline, warm_up: WarmUp, logs: Mapping[TopicPartition, LogCursor],
        readers: Sequence[PartitionRecord], held: Mapping[int, RecordedBlock | None],
    ) -> tuple[list[_Source], list[_Outcomes]]:  # fmt: skip
        """What is read, from where it is read on."""
        topology, by_partition = self._topology, {r.range.partition: r for r in readers}
        self._keyed = {
            name: KeyedColumns(pipeline, name, warm_up.whole) for name in topology.repartitioned
        }
        sources = []
        for partition in sorted({*by_partition, *warm_up.partitions}):
            reader = by_partition.get(partition)
            tp = TopicPartition(topology.events, partition)
            is_whole = (topology.events, partition) in warm_up.whole
            block = held.get(partition)
            sources.append(_Source(
                partition, logs.get(tp),
                PartitionEvents(pipeline, partition, is_whole=is_whole),
                reader, logs[tp].end if reader is None else reader.range.start,
                None if reader is None else reader.range.end,
                deque([] if block is None else [block]),
            ))  # fmt: skip
        outcomes = [
            _Outcomes(tp.partition, log)
            for tp, log in logs.items()
            if tp.topic == topology.outcomes
        ]  # fmt: skip
        return sources, outcomes

    # -- reading on

    async def _read(
        self, sources: Sequence[_Source], outcomes: Sequence[_Outcomes], blocks: BlockReplay,
        show: Callable[[], None],
    ) -> None:  # fmt: skip
        decoder = SourceDecoder(outcome_schema(self._file.pipeline), self._file.pipeline.partitions)
        while not all(source.is_done for source in sources):
            if (behind := self._furthest_behind(sources, outcomes)) is None:
                break
            if isinstance(behind, _Outcomes):
                await self._read_outcomes(behind, decoder)
            else:
                await self._read_events(behind, blocks)
            for keyed in self._keyed.values():
                keyed.release()
            for source in sources:
                await self._finish(source, blocks)
            show()

    def _furthest_behind(
        self, sources: Sequence[_Source], outcomes: Sequence[_Outcomes]
    ) -> _Source | _Outcomes | None:
        """What is to be read on; None when nothing is left."""
        if not self._keyed:
            return next((source for source in sources if not source.is_over), None)
        delay_ms = min(keyed.delay_ms for keyed in self._keyed.values())
        clocks: list[tuple[int, _Source | _Outcomes]] = [
            (source.events.clock_ms, source) for source in sources if not source.is_over
        ]
        clocks += [(each.clock_ms + delay_ms, each) for each in outcomes if not each.is_over]
        return min(clocks, key=lambda each: each[0])[1] if clocks else None

    async def _read_outcomes(self, outcomes: _Outcomes, decoder: SourceDecoder) -> None:
        records = await outcomes.cursor.some(BLOCK_ROWS, outcomes.cursor.end)
        if not records:
            outcomes.is_over = True
        else:
            decoded = decoder.decode(records, outcomes.partition)
            times = decoded.times_ms[decoded.valid]
            outcomes.clock_ms = max(outcomes.clock_ms, int(times.max(initial=BEGINNING)))
        for name, keyed in self._keyed.items():
            if name not in self._topology.by_outcomes:
                continue
            if records:
                keyed.take_outcomes(outcomes.partition, records, decoded)
            else:
                keyed.end(outcomes.partition, outcomes=True)

    async def _read_events(self, source: _Source, blocks: BlockReplay) -> None:
        """The next events of a partition: those that windows need, or a block of its range."""
        if not source.is_warm:
            records = (
                [] if source.cursor is None else await source.cursor.some(BLOCK_ROWS, source.until)
            )
            if records:
                source.warm_up += len(records)
                columns = source.events.read(records)
                self._take(source, records, columns)
                return
            source.is_warm = True
        if (block := await source.block()) is not None:
            parts = [part for batches in block.stages.values() for part in batches]
            columns = source.events.read(block.events, parts)
            self._take(source, block.events, columns)
            if self._keyed:
                source.waiting.append((block, columns))
            else:
                await self._replay(blocks, block, columns, {})
            return
        await self._read_behind(source)

    async def _read_behind(self, source: _Source) -> None:
        """Events behind its range, which others' windows see."""
        records = []
        if self._keyed and source.cursor is not None:
            if source.behind is not None:
                source.cursor.seek(source.behind)
                source.behind = None
            records = await source.cursor.some(BLOCK_ROWS, source.cursor.end)
        if not records:
            source.is_over = True
            for keyed in self._keyed.values():
                keyed.end(source.partition, outcomes=False)
            return
        columns = source.events.read(records)
        self._take(source, records, columns)

    def _take(
        self, source: _Source, records: Sequence[ConsumerRecord], columns: EventColumns
    ) -> None:
        for keyed in self._keyed.values():
            keyed.take_events(source.partition, records, columns.decoded)

    # -- blocks that have all they need

    async def _finish(self, source: _Source, blocks: BlockReplay) -> None:
        while source.waiting:
            block, columns = source.waiting[0]
            partition, offsets = source.partition, block.offsets
            if not all(keyed.has(partition, offsets) for keyed in self._keyed.values()):
                return
            windows = {name: keyed.take(partition, offsets) for name, keyed in self._keyed.items()}
            source.waiting.popleft()
            await self._replay(blocks, block, columns, windows)

    async def _replay(
        self, blocks: BlockReplay, block: RecordedBlock, columns: EventColumns,
        windows: Mapping[str, WindowColumns],
    ) -> None:  # fmt: skip
        blocks.replay(block, columns, windows)
        self._done += len(block)
