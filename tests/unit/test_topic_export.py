"""Exports: each record in one file of its hour, whatever ends the export and whenever."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pyarrow.dataset as ds
import pytest
from aiokafka.structs import TopicPartition

from agents.broker import LogReader
from agents.dataset import topic_export
from agents.dataset.errors import ExportRunning, OtherExport
from agents.dataset.record_columns import read_batches, read_decisions, read_json, reader_of
from agents.dataset.topic_export import ExportSummary, TopicExport
from tests.unit.stage_batches import batch_of
from tests.unit.test_decisions import PIPELINE, joined_of, records_of, stage
from topics.records.heartbeat import Heartbeat
from topics.records.wire import encode

TOPIC = "p.events"
HOUR_MS, DAY = 3_600_000, "2026-01-31"
START_MS = 1_769_864_400_000


@dataclass(frozen=True)
class Stored:
    """A record as a log reader sees it, which knows of no partition."""

    of: int
    """Its partition."""
    offset: int
    timestamp: int = START_MS
    value: bytes | None = b"{}"
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class Log:
    """Broker and reader in one: partitions as lists, two records a fetch."""

    stored: Mapping[int, list[Stored]]
    firsts: dict[int, int] = field(default_factory=dict)

    async def partitions(self, topic: str) -> int:
        assert topic == TOPIC
        return len(self.stored)

    async def bounds(self, asked: Iterable[TopicPartition], which: str) -> dict[Any, int]:
        return {
            tp: self.firsts.get(tp.partition, 0)
            if which == "first"
            else max((each.offset + 1 for each in self.stored[tp.partition]), default=0)
            for tp in asked
        }

    async def fetch(self, positions: Mapping[TopicPartition, int]) -> dict[Any, Any]:
        return {tp: self._result(tp.partition, position) for tp, position in positions.items()}

    def _result(self, partition: int, position: int) -> Any:
        first = self.firsts.get(partition, 0)
        there = [each for each in self.stored[partition] if each.offset >= max(first, position)][:2]
        return Fetched([Batch(there)] if there and position >= first else [], position < first)


@dataclass
class Fetched:
    batches: list[Any]
    dropped: bool


@dataclass
class Batch:
    stored: list[Stored]

    def records(self) -> list[Stored]:
        return self.stored

    @property
    def next_offset(self) -> int:
        return self.stored[-1].offset + 1


def log_of(count: int, partitions: int = 2) -> Log:
    """Hours go on and, now and then, back."""
    return Log({
        partition: [
            Stored(partition, offset, START_MS + (offset // 3 - offset % 4 // 3) * HOUR_MS,
                   json.dumps({"n": offset}).encode())
            for offset in range(count)
        ]
        for partition in range(partitions)
    })  # fmt: skip


async def exported(log: Log, folder: Path) -> ExportSummary:
    return await TopicExport(TOPIC, folder, read_json).run(cast("LogReader", log))


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """As a lake reads them: hives by date and hour, without what begins with an underscore."""
    return cast("list[dict[str, Any]]", ds.dataset(
        folder, format="parquet", partitioning="hive"
    ).to_table().to_pylist())  # fmt: skip


def check_whole(log: Log, folder: Path) -> None:
    """Every record is there once, in the folder of its hour, as it was."""
    rows = rows_in(folder)
    every = {(each.of, each.offset): each for of in log.stored.values() for each in of}
    places = Counter((row["record_partition"], row["record_offset"]) for row in rows)
    assert places == dict.fromkeys(every, 1)
    for row in rows:
        record = every[row["record_partition"], row["record_offset"]]
        assert row["json"].encode() == record.value
        at = row["record_time"]
        assert (str(row["date"]), int(row["hour"])) == (f"{at:%Y-%m-%d}", at.hour)


async def test_a_topic_is_exported_by_hour_and_the_next_export_goes_on(tmp_path: Path) -> None:
    log = log_of(40)
    first = await exported(Log({p: of[:25] for p, of in log.stored.items()}), tmp_path)
    assert (first.records, first.rows, first.next_offsets) == (50, 50, {0: 25, 1: 25})
    again = await exported(log, tmp_path)
    assert (again.records, again.next_offsets) == (30, {0: 40, 1: 40})
    assert (await exported(log, tmp_path)).records == 0
    check_whole(log, tmp_path)
    assert (tmp_path / f"date={DAY}" / "hour=13").is_dir()


@pytest.mark.parametrize("step", ["rename", "fsync", "write"])
async def test_whatever_step_it_ends_at_nothing_is_doubled_or_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It ends at the first such step, goes on and ends at the second, and so on."""
    monkeypatch.setattr(topic_export, "_CHUNK_ROWS", 7)
    log, ends = log_of(60), 0
    while True:
        with monkeypatch.context() as patched:
            _failing(patched, step, after=ends % 9)
            try:
                await exported(log, tmp_path)
                break
            except _Killed:
                ends += 1
        assert ends < 500
    assert ends > 10
    check_whole(log, tmp_path)
    assert not [*(tmp_path / "_progress").glob("*.parquet")]


class _Killed(BaseException):
    """Nothing of ours catches it."""


def _failing(patched: pytest.MonkeyPatch, step: str, after: int) -> None:
    """The step does what it does *after* times, and then ends all."""
    left = [after]

    def failing(own: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            if not left[0]:
                raise _Killed
            left[0] -= 1
            return own(*args, **options)

        return call

    if step == "rename":
        patched.setattr(Path, "rename", failing(Path.rename))
    elif step == "fsync":
        patched.setattr("os.fsync", failing(os.fsync))
    else:
        import pyarrow.parquet as pq

        patched.setattr(pq, "write_table", failing(pq.write_table))


async def test_what_was_deleted_before_it_was_exported_is_counted(tmp_path: Path) -> None:
    log = log_of(40, partitions=1)
    await exported(Log({0: log.stored[0][:10]}), tmp_path)
    later = Log(log.stored, {0: 25})
    summary = await exported(later, tmp_path)
    assert (summary.records, summary.gone) == (15, {0: 15})


async def test_gaps_of_compaction_are_no_loss(tmp_path: Path) -> None:
    log = log_of(40, partitions=1)
    kept = Log({0: [each for each in log.stored[0] if each.offset % 3 == 0]})
    summary = await exported(kept, tmp_path)
    assert (summary.records, summary.gone) == (14, {})
    check_whole(kept, tmp_path)


async def test_a_topic_that_was_made_anew_is_no_export_to_go_on_with(tmp_path: Path) -> None:
    await exported(log_of(10), tmp_path)
    other = log_of(12)
    other.stored[1][9] = replace(other.stored[1][9], value=b'{"n": "other"}')
    with pytest.raises(OtherExport, match=r"p\.events has another record at 9"):
        await exported(other, tmp_path)
    with pytest.raises(OtherExport, match="shorter now"):
        await exported(log_of(5), tmp_path)
    another = TopicExport("p.decisions", tmp_path, read_json)
    with pytest.raises(OtherExport, match=r"it holds p\.events"):
        await another.run(cast("LogReader", log_of(10)))


async def test_two_exports_to_one_folder_are_refused(tmp_path: Path) -> None:
    first = TopicExport(TOPIC, tmp_path, read_json)
    with first._alone(), pytest.raises(ExportRunning, match="another export writes to"):
        await exported(log_of(3), tmp_path)


def test_events_are_fields_and_what_is_none_is_raw() -> None:
    read = reader_of(PIPELINE, TOPIC)
    assert read is not None
    good = Stored(0, 1, value=b'{"id": "a", "at": "2026-01-01T00:00:00Z"}', key=b"k")
    table = read([Stored(0, 0, value=b"\xff"), good], 0)
    bad, event = table.to_pylist()
    assert (event["id"], event["record_key"], event["raw"]) == ("a", b"k", None)
    assert f"{event['at']:%Y-%m-%d}" == "2026-01-01"
    assert (bad["id"], bad["raw"]) == (None, b"\xff")
    assert bad["undecoded_because"]
    none = read([Stored(0, 0, value=None)], 0)
    assert none.schema == table.schema, "also where no event is one"


def test_decisions_are_their_fields() -> None:
    joined = joined_of({"a": stage("a", [0.5]), "b": stage("b", [None])})
    (made,) = records_of(joined)
    rows = read_decisions(
        [Stored(2, 7, value=made.value), Stored(2, 8, value=b'{"decision": "x"}')], 2
    ).to_pylist()
    assert (rows[0]["decision"], rows[0]["score"], rows[0]["missing"]) == ("decline", 0.5, ["b"])
    assert dict(rows[0]["contributions"])["a"]["signal"] == 0.5
    assert rows[0]["propensity"] == 1.0
    assert rows[1]["decision"] is None
    assert rows[1]["raw"] == b'{"decision": "x"}'


def test_stage_batches_are_their_rows_and_heartbeats_none() -> None:
    value, headers = encode(batch_of("a", [3, 4], absent=[4]))
    beat = Heartbeat(component="a", partition=0, worker="w", state="working").record(5)
    records = [
        Stored(0, 4, value=beat.value, headers=beat.headers),
        Stored(0, 5, value=value, headers=headers),
        Stored(0, 6, value=b"nonsense"),
        Stored(0, 7, value=value, headers=headers),
    ]
    rows = read_batches(records, 0).to_pylist()
    assert [(row["record_offset"], row["source_offset"]) for row in rows] == [
        (5, 3), (5, 4), (6, None), (7, 3), (7, 4),
    ]  # fmt: skip
    assert (rows[0]["present"], rows[1]["present"], rows[1]["error"]) == (True, False, "ValueError")
    assert rows[2]["raw"] == b"nonsense"
