"""Stage batches that are larger than their topic takes: no row stops its worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
from aiokafka.errors import MessageSizeTooLargeError

from agents.stages.stage_writer import BatchWriter
from tests.unit.stage_batches import batch_of
from topics.kafka.batches import MAX_RECORD_BYTES, Record
from topics.records.stage_batch import StageBatch
from topics.records.wire import decode


@dataclass
class Topic:
    """Takes record batches up to a size, as a broker does, and keeps them."""

    limit: int
    records: list[Record] = field(default_factory=list)
    refused: int = 0

    async def write(self, name: str, partition: int, records: Sequence[Record]) -> None:
        assert (name, partition) == ("p.a", 3)
        if sum(record.size for record in records) > self.limit:
            self.refused += 1
            raise MessageSizeTooLargeError
        self.records += records

    @property
    def batches(self) -> list[StageBatch]:
        return [decode(record.value, dict(record.headers)) for record in self.records]


def writer_of(topic: Topic, codec: Literal["binary", "json"] = "binary") -> BatchWriter:
    app: Any = SimpleNamespace(writer=topic)
    return BatchWriter(app, "p.a", codec)


def rows(batches: Sequence[StageBatch]) -> list[int]:
    return [offset for batch in batches for offset in batch.rows.offsets.tolist()]


def present(batches: Sequence[StageBatch]) -> list[bool]:
    return [bool(each) for batch in batches for each in batch.present]


def errors(batches: Sequence[StageBatch]) -> list[str]:
    return [failure.error for batch in batches for failure in batch.failures]


@pytest.mark.parametrize("codec", ["binary", "json"])
async def test_a_batch_is_split_into_records_that_are_small_enough(
    codec: Literal["binary", "json"],
) -> None:
    topic = Topic(1_048_588)
    parts = await writer_of(topic, codec).write(3, [batch_of("a", range(1000), width=1617)])
    assert rows(topic.batches) == rows(parts) == [*range(1000)]
    assert all(present(topic.batches))
    assert topic.refused == 0
    assert all(len(record.value or b"") <= MAX_RECORD_BYTES for record in topic.records)
    edges = [(batch.covers_from, batch.covers_to) for batch in topic.batches]
    assert [first for first, _ in edges] == [0, *(last + 1 for _, last in edges[:-1])]


async def test_a_row_that_is_too_large_for_any_record_is_absent_and_says_so() -> None:
    topic = Topic(1_048_588)
    parts = await writer_of(topic).write(3, [batch_of("a", [5], width=300_000)])
    assert (present(parts), present(topic.batches)) == ([False], [False])
    (failure,) = topic.batches[0].failures
    assert failure.error == "OutputTooLarge"
    assert "a record 900,000 at most" in failure.reason


async def test_a_topic_that_takes_less_than_we_write_gets_smaller_records_and_no_row_is_lost() -> (
    None
):
    topic = Topic(50_000)
    writer = writer_of(topic)
    await writer.write(3, [batch_of("a", range(100), width=1617), batch_of("a", range(100, 150))])
    assert rows(topic.batches) == [*range(150)]
    assert all(present(topic.batches))
    refused = topic.refused
    await writer.write(3, [batch_of("a", range(150, 250), width=1617)])
    assert rows(topic.batches) == [*range(250)]
    assert topic.refused == refused, "it is known by now what the topic takes"


async def test_a_row_that_is_larger_than_its_topic_takes_is_absent_and_its_neighbours_are_not() -> (
    None
):
    topic = Topic(50_000)
    large = replace(batch_of("a", [3]), output=np.ones((1, 20_000), np.float32))
    batches = [batch_of("a", range(3)), large, batch_of("a", range(4, 9))]
    parts = await writer_of(topic).write(3, batches)
    assert rows(topic.batches) == [*range(9)]
    assert present(topic.batches) == present(parts) == [offset != 3 for offset in range(9)]
    assert errors(topic.batches) == ["OutputTooLarge"]


async def test_a_topic_that_takes_nothing_at_all_is_named() -> None:
    with pytest.raises(MessageSizeTooLargeError, match=r"p\.a takes no record of"):
        await writer_of(Topic(100)).write(3, [batch_of("a", range(4))])
