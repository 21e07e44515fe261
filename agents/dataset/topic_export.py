"""A topic as Parquet files by hour, for a lake; goes on where it has ended, and doubles nothing.

    DIR/date=2026-01-31/hour=13/p0003-<first offset>-<last offset>.parquet
    DIR/_progress/p0003.json      up to where partition 3 is exported
    DIR/_progress/*.parquet       files that are being written; readers of lakes pass over `_…`

The hour is that of a record's timestamp. A chunk of a partition, in as many files as it has hours,
is first written below `_progress`. Then the partition's JSON is replaced at once by one that names
the next offset and these files: from then on they are exported. Then they are moved to their
places. Whoever comes after a kill moves the files that are named and still there, and removes the
others: so each record is in one file, whenever that was.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from aiokafka.structs import TopicPartition
from pydantic import BaseModel, ConfigDict, ValidationError

from agents.broker import LogReader
from agents.dataset.errors import ExportRunning, OtherExport
from agents.dataset.record_columns import WHY, RecordReader
from agents.replay.topic_records import topic_records

_PROGRESS = "_progress"
_CHUNK_ROWS, _CHUNK_BYTES = 65_536, 16 * 2**20
_HELD_BYTES = 128 * 2**20
"""Of all partitions: with more than that, all are written."""
_LAST_MS = 253_402_300_799_999

Progress = Callable[[int, int], None]


class _PartitionProgress(BaseModel):
    """What is exported of a partition."""

    model_config = ConfigDict(frozen=True)

    topic: str
    next_offset: int
    last_offset: int
    last_crc: int
    """Of the last record's value: a topic that was made anew has another there."""
    files: dict[str, str] = {}
    """Of the last chunk: name below `_progress` → its place."""


class ExportSummary(BaseModel):
    """What was exported, now."""

    topic: str
    folder: str
    records: int
    rows: int
    files: int
    undecoded: int
    """Rows with raw bytes."""
    gone: dict[int, int]
    """Partition → records that the topic had lost before they were exported."""
    next_offsets: dict[int, int]
    """Partition → where the next export goes on."""


@dataclass(slots=True)
class _Counts:
    records: int = 0
    rows: int = 0
    files: int = 0
    undecoded: int = 0
    gone: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Chunk:
    """Records of a partition that are to be written next."""

    records: list[Any] = field(default_factory=list)
    nbytes: int = 0


class TopicExport:
    """Exports *topic* to *folder*; *read* makes its records rows."""

    def __init__(self, topic: str, folder: Path, read: RecordReader) -> None:
        self._topic, self._folder, self._read = topic, folder, read
        self._progress = folder / _PROGRESS
        self._known: dict[int, _PartitionProgress] = {}
        self._counts = _Counts()

    async def run(self, reader: LogReader, show: Progress | None = None) -> ExportSummary:
        """Export what the topic has now, from where the last export has ended.

        Raises ExportRunning, OtherExport, OSError, KafkaError and TopicMissing.
        """
        with self._alone():
            self._recover()
            count = await reader.partitions(self._topic)
            starts = await self._starts(reader, count)
            chunks = defaultdict[int, _Chunk](_Chunk)
            expected = dict(starts)
            async for part in topic_records(reader, self._topic, starts, progress=show):
                if not part.records:
                    continue
                await self._note_gap(reader, part.partition, expected, part.records[0].offset)
                expected[part.partition] = part.records[-1].offset + 1
                self._take(chunks[part.partition], part.records)
                await self._write_full(chunks)
            for partition in sorted(chunks):
                await self._write(partition, chunks[partition])
        counts = self._counts
        return ExportSummary(
            topic=self._topic, folder=str(self._folder), records=counts.records, rows=counts.rows,
            files=counts.files, undecoded=counts.undecoded, gone=counts.gone,
            next_offsets={p: known.next_offset for p, known in sorted(self._known.items())},
        )  # fmt: skip

    # -- where to go on

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two exports to one folder would name each other's files."""
        self._progress.mkdir(parents=True, exist_ok=True)
        with (self._progress / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise ExportRunning(self._folder) from exc
            yield

    def _recover(self) -> None:
        """Finish what a kill has left."""
        for path in sorted(self._progress.glob("p*.json")):
            try:
                known = _PartitionProgress.model_validate_json(path.read_bytes())
            except ValidationError as exc:
                raise OtherExport(self._folder, f"{path} cannot be read") from exc
            if known.topic != self._topic:
                raise OtherExport(self._folder, f"it holds {known.topic}")
            self._known[int(path.stem[1:])] = known
            self._publish(known)
        for left in self._progress.glob("*.parquet"):
            left.unlink()

    def _publish(self, known: _PartitionProgress) -> None:
        for name, place in known.files.items():
            path = self._folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # it was moved before
                (self._progress / name).rename(path)

    async def _starts(self, reader: LogReader, count: int) -> dict[int, int]:
        """Where each partition goes on. Raises OtherExport for another topic of the same name."""
        numbers = [TopicPartition(self._topic, number) for number in range(count)]
        firsts = await reader.bounds(numbers, "first")
        ends = await reader.bounds(numbers, "end")
        starts = {}
        for tp in numbers:
            known = self._known.get(tp.partition)
            starts[tp.partition] = firsts[tp] if known is None else known.next_offset
            if known is None:
                continue
            if known.next_offset > ends[tp]:
                raise OtherExport(self._folder, f"{self._topic} is shorter now: it was made anew")
            await self._check_last(reader, tp, firsts[tp], known)
            if firsts[tp] > known.next_offset:
                self._counts.gone[tp.partition] = firsts[tp] - known.next_offset
                starts[tp.partition] = firsts[tp]
        return starts

    async def _check_last(
        self, reader: LogReader, tp: TopicPartition, first: int, known: _PartitionProgress
    ) -> None:
        at = known.last_offset
        if first > at:  # it is gone, so nobody can tell
            return
        asked = topic_records(reader, tp.topic, {tp.partition: at}, stops={tp.partition: at + 1})
        async for part in asked:
            for record in part.records:
                if _crc(record) != known.last_crc:
                    raise OtherExport(self._folder, f"{tp.topic} has another record at {at}")

    async def _note_gap(
        self, reader: LogReader, partition: int, expected: Mapping[int, int], offset: int
    ) -> None:
        """Count what retention has deleted while we read; compaction leaves gaps, too."""
        hole = offset - expected[partition]
        if hole > 0:
            tp = TopicPartition(self._topic, partition)
            first = (await reader.bounds([tp], "first"))[tp]
            gone = max(0, min(first, offset) - expected[partition])
            if gone:
                self._counts.gone[partition] = self._counts.gone.get(partition, 0) + gone

    # -- writing

    def _take(self, chunk: _Chunk, records: Sequence[Any]) -> None:
        chunk.records += records
        chunk.nbytes += sum(
            len(record.value or b"") + len(record.key or b"") + 200 for record in records
        )

    async def _write_full(self, chunks: Mapping[int, _Chunk]) -> None:
        too_many = sum(chunk.nbytes for chunk in chunks.values()) > _HELD_BYTES
        for partition, chunk in chunks.items():
            if too_many or chunk.nbytes > _CHUNK_BYTES or len(chunk.records) > _CHUNK_ROWS:
                await self._write(partition, chunk)

    async def _write(self, partition: int, chunk: _Chunk) -> None:
        records = chunk.records
        chunk.records, chunk.nbytes = [], 0
        if records:
            await asyncio.to_thread(self._commit, partition, records)

    def _commit(self, partition: int, records: Sequence[Any]) -> None:
        """Write a chunk, then say so, then put its files in their places."""
        files = dict(self._files(partition, records))
        last = records[-1]
        known = _PartitionProgress(
            topic=self._topic, next_offset=last.offset + 1, last_offset=last.offset,
            last_crc=_crc(last), files=files,
        )  # fmt: skip
        _synced(self._progress)
        unfinished = self._progress / f".p{partition:04}.json"
        with unfinished.open("wb") as file:
            file.write(known.model_dump_json().encode())
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self._progress / f"p{partition:04}.json")
        _synced(self._progress)
        self._known[partition] = known
        self._publish(known)
        self._counts.records += len(records)

    def _files(self, partition: int, records: Sequence[Any]) -> Iterator[tuple[str, str]]:
        """Write the records of each hour; the name of the file, and its place."""
        import pyarrow.parquet as pq

        by_hour = defaultdict[str, list[Any]](list)
        for record in records:
            by_hour[_hour(record.timestamp)].append(record)
        for hour, own in by_hour.items():
            table = self._read(own, partition)
            if not len(table):  # heartbeats alone
                continue
            name = f"p{partition:04}-{own[0].offset:020}-{own[-1].offset:020}.parquet"
            temporary = f"{hour.replace('/', '-')}-{name}"
            with (self._progress / temporary).open("wb") as file:
                pq.write_table(table, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            self._counts.files += 1
            self._counts.rows += len(table)
            self._counts.undecoded += len(table) - int(table.column(WHY).null_count)
            yield temporary, f"{hour}/{name}"


def _hour(time_ms: int) -> str:
    """The folder of a time, in UTC; of one without, or beyond the calendar, the nearest there is.

    >>> _hour(1_769_864_461_000), _hour(-1)
    ('date=2026-01-31/hour=13', 'date=1970-01-01/hour=00')
    """
    at = np.datetime64(min(max(time_ms, 0), _LAST_MS), "ms")
    text = str(np.datetime_as_string(at, "h"))
    return f"date={text[:10]}/hour={text[11:13]}"


def _crc(record: Any) -> int:
    return crc32(record.value or b"")


def _synced(folder: Path) -> None:
    """Make sure that what a folder lists is on the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
