"""A range of events, from the topics to one Parquet file, in memory that does not grow with it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pydantic import BaseModel

from agents.broker import LogReader, topic_names
from agents.dataset.errors import DatasetNotWritable
from agents.dataset.outcome_store import OutcomeStore
from agents.dataset.served_rows import ServedRows
from agents.dataset.time_order import TimeOrder
from agents.replay.recorded_range import PartitionRecord, SourceRange, recorded_ranges
from agents.replay.topic_records import topic_records
from agents.workers import TailReader
from models.data import SERVED_BY
from topics.errors import MissingExtra
from topics.events import OutcomeDecoder
from topics.pipeline import Pipeline, Topology
from topics.settings import BrokerSettings

_GROUP_ROWS = 64 * 1024

Progress = Callable[[int, int], None]
"""Told how much is read, of how much."""


class DatasetSummary(BaseModel):
    """What a data set holds, and what of the range it does not."""

    pipeline: str
    file: str
    rows: int
    labelled: int
    positives: int
    """Rows whose outcome is true."""
    unlabelled: int
    """Events old enough for an outcome that have none: not negatives, but unknown. They are rows,
    unless only labelled ones were asked for."""
    immature: int
    """Events left out because they are younger than outcomes take."""
    invalid: int
    """Events left out because they are none."""
    undecided: int
    foreign: int
    decisions: Mapping[str, int]
    offsets: Mapping[int, tuple[int, int]]
    """Partition → its events, [first, behind the last)."""


def check_place(path: Path) -> None:
    """Raise, before anything is read, what would keep a data set from being written at *path*.

    Raises DatasetNotWritable and MissingExtra.
    """
    if path.suffix.lower() != ".parquet":
        raise DatasetNotWritable(path, "its name must end in .parquet")
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as exc:
        raise MissingExtra(f"writing {path}", "data") from exc
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as exc:
        raise DatasetNotWritable(path, exc.strerror or str(exc)) from exc


class DatasetBuilder:
    """Reads what is recorded of a pipeline's events, and writes it."""

    def __init__(
        self, settings: BrokerSettings, pipeline: Pipeline, tail: TailReader,
        progress: Mapping[str, Progress] | None = None,
    ) -> None:  # fmt: skip
        self._settings, self._pipeline, self._tail = settings, pipeline, tail
        self._topology = Topology.of(pipeline)
        self._progress = progress or {}

    async def build(
        self, ranges: Sequence[SourceRange], path: Path, *, mature_before_ms: int | None = None,
        labelled_only: bool = False,
    ) -> DatasetSummary:  # fmt: skip
        """Write the events of *ranges* to *path*, whole or not at all.

        With `mature_before_ms` only those before that event time. Raises DatasetNotWritable,
        BrokerError and KafkaError; see `check_place`.
        """
        try:
            with OutcomeStore.in_folder(path.parent) as outcomes:
                await self._read_outcomes(outcomes)
                rows = ServedRows(
                    self._pipeline, outcomes, mature_before_ms=mature_before_ms,
                    labelled_only=labelled_only,
                )  # fmt: skip
                await self._write(ranges, rows, path)
        except OSError as exc:
            raise DatasetNotWritable(path, exc.strerror or str(exc)) from exc
        except sqlite3.Error as exc:  # a disk that is full, of the outcomes that wait beside it
            raise DatasetNotWritable(path, f"outcomes cannot be kept beside it: {exc}") from exc
        counts = rows.counts
        unlabelled_rows = 0 if labelled_only else counts.unlabelled
        return DatasetSummary(
            pipeline=self._pipeline.name, file=str(path), rows=counts.rows,
            labelled=counts.rows - unlabelled_rows, positives=counts.positives,
            unlabelled=counts.unlabelled, immature=counts.immature, invalid=counts.invalid,
            undecided=counts.undecided, foreign=counts.foreign,
            decisions=dict(sorted(counts.decisions.items())),
            offsets={of.partition: (of.start, of.end) for of in ranges},
        )  # fmt: skip

    async def _read_outcomes(self, outcomes: OutcomeStore) -> None:
        """All outcomes that there are: they come as late as they like."""
        topic, decoder = self._topology.outcomes, OutcomeDecoder(self._pipeline)
        if topic not in await topic_names(self._settings, [topic]):
            return
        starts = {
            partition: (await self._tail.bounds(topic, partition))[0]
            for partition in range(self._topology.partitions)
        }
        async with LogReader.of(self._settings) as reader:
            async for part in topic_records(
                reader, topic, starts, progress=self._progress.get(topic)
            ):
                decoded = decoder.decode(part.records, part.partition)
                await asyncio.to_thread(outcomes.add, decoded)

    async def _write(self, ranges: Sequence[SourceRange], rows: ServedRows, path: Path) -> None:
        total = sum(of.end - of.start for of in ranges)
        show = self._progress.get(self._topology.events)

        def next_of(partition: PartitionRecord) -> Callable[[], Any]:
            async def more() -> Any | None:
                block = await partition.block()
                if block is None:
                    return None
                table = await asyncio.to_thread(rows.table, block)
                if show is not None:
                    show(rows.counts.events, total)
                return table

            return more

        async with (
            recorded_ranges(self._settings, self._topology, ranges, self._tail) as partitions,
            _parquet(path, rows.schema, self._metadata(ranges)) as write,
        ):
            order = TimeOrder(self._pipeline.event.time, [next_of(each) for each in partitions])
            async for table in order.tables():
                await asyncio.to_thread(write, table)

    def _metadata(self, ranges: Sequence[SourceRange]) -> dict[bytes, bytes]:
        """What the file says of itself."""
        offsets = " ".join(f"{of.partition}:{of.start}-{of.end}" for of in ranges)
        return {
            SERVED_BY: self._pipeline.name.encode(),
            b"anabranch.events": self._topology.events.encode(),
            b"anabranch.offsets": offsets.encode(),
        }


@asynccontextmanager
async def _parquet(
    path: Path, schema: Any, metadata: Mapping[bytes, bytes]
) -> AsyncIterator[Callable[[Any], None]]:
    """Write tables to what becomes *path* when all went well."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    held: list[Any] = []

    def flush() -> None:
        if held:
            # Dictionaries are those of each table: a row group has one.
            writer.write_table(pa.concat_tables(held).unify_dictionaries())
            held.clear()

    def write(table: Any) -> None:
        held.append(table)
        if sum(map(len, held)) >= _GROUP_ROWS:
            flush()

    try:
        with ParquetWriter(
            unfinished, schema.with_metadata(metadata), compression="zstd"
        ) as writer:
            yield write
            await asyncio.to_thread(flush)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
