"""How attempts ended is read from the last summaries, however long the redrive topic is."""

from __future__ import annotations

import numpy as np
import pytest

from agents.broker.pipeline_topics import ensure_topics
from agents.redrive import attempt_endings
from agents.redrive.attempt_endings import AttemptEndings
from agents.workers.topic_tail import TailReader
from tests.integration.harness import publish_raw
from tests.unit.redrives import event_of, redrive_of
from topics.kafka.batches import Record
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.topology import Topology
from topics.records.decision import ATTEMPT_HEADER
from topics.redrive.endings import decode_summary, is_summary
from topics.redrive.record import Ending
from topics.redrive.wire import encode_redrive
from topics.settings import BrokerSettings

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
TOPOLOGY = Topology.of(PIPELINE)
PARTITION = 1
BATCH = 50
BATCHES = 40


def end_of(offset: int) -> Ending:
    return "dead-letter" if offset % 7 == 0 else "decision"


async def written(ends: AttemptEndings, broker: BrokerSettings, offsets: range) -> None:
    """Redrive records, and the ending records, as the weighting agent writes them."""
    redrives = redrive_of(offsets=offsets, topic=TOPOLOGY.events, partition=PARTITION)
    ones = [redrives.picked(np.array([row])) for row in range(len(redrives))]
    await publish_raw(
        broker, TOPOLOGY.redrive, PARTITION, [encode_redrive(each, 5) for each in ones]
    )
    endings = []
    for one in ones:
        (event,) = one.events
        ends.add(event, end_of(event.offset))
        ends.add_ending_record(event)
        endings.append(encode_redrive(one.ending(end_of(event.offset)), 6))
    if (summary := ends.summary(7)) is not None:
        endings.append(summary)
    await publish_raw(broker, TOPOLOGY.redrive, PARTITION, endings)


async def read_back(ends: AttemptEndings, tail: TailReader) -> None:
    """The worker reads what it has written, as it reads everything."""
    first, end = await tail.bounds(TOPOLOGY.redrive, PARTITION)
    for record in await tail.between(TOPOLOGY.redrive, PARTITION, max(first, end - 5), end):
        if is_summary(record.headers):
            ends.read_back(record)


async def test_a_start_reads_the_last_summaries_and_knows_every_end(
    broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_endings, "SUMMARY_AFTER", 2 * BATCH)
    await ensure_topics(broker, TOPOLOGY)
    tail = TailReader(broker)
    await tail.start()
    ends = AttemptEndings()
    for batch in range(BATCHES):
        await written(ends, broker, range(batch * BATCH, (batch + 1) * BATCH))
        await read_back(ends, tail)
    # Behind the last summary: what was written before a crash, and has no ending record.
    last = BATCHES * BATCH
    unnoted = Record(None, b"{}", 9, [
        ("ce_id", f"{TOPOLOGY.events}/{PARTITION}/{last}".encode()), (ATTEMPT_HEADER, b"2"),
    ])  # fmt: skip
    await publish_raw(broker, TOPOLOGY.decisions, PARTITION, [unnoted])

    before = tail.records_read
    again = await AttemptEndings.read(tail, TOPOLOGY, PARTITION, 5)
    assert tail.records_read - before < 1000 < 2 * last
    known = again.of(np.arange(last + 2))
    assert known == [{2: end_of(offset)} for offset in range(last)] + [{2: "decision"}, {}]
    assert all(again.has_ending_record(event_of(offset)) for offset in range(last))
    assert not again.has_ending_record(event_of(last))
    first, end = await tail.bounds(TOPOLOGY.redrive, PARTITION)
    summaries = [decode_summary(record.value, record.headers)
                 for record in await tail.between(TOPOLOGY.redrive, PARTITION, first, end)
                 if is_summary(record.headers)]  # fmt: skip
    assert len(summaries) == BATCHES // 2
    assert max(len(summary.ends) for summary in summaries) > last // 2
    await tail.stop()


async def test_a_topic_without_summaries_is_read_once_and_summed_up_in_parts(
    broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_topics(broker, TOPOLOGY)
    tail = TailReader(broker)
    await tail.start()
    for batch in range(8):
        await written(AttemptEndings(), broker, range(batch * BATCH, (batch + 1) * BATCH))
    monkeypatch.setattr(attempt_endings, "SUMMARY_AFTER", BATCH)
    monkeypatch.setattr(attempt_endings, "MOST_ENDINGS", 3 * BATCH)
    ends = await AttemptEndings.read(tail, TOPOLOGY, PARTITION, 5)
    for part in range(4):
        if part == 2:  # a crash before all are summed up: nothing is forgotten
            ends = await AttemptEndings.read(tail, TOPOLOGY, PARTITION, 5)
        if (summary := ends.summary(7)) is not None:
            await publish_raw(broker, TOPOLOGY.redrive, PARTITION, [summary])
        await read_back(ends, tail)
    while (summary := ends.summary(7)) is not None:
        await publish_raw(broker, TOPOLOGY.redrive, PARTITION, [summary])
        await read_back(ends, tail)
    before = tail.records_read
    again = await AttemptEndings.read(tail, TOPOLOGY, PARTITION, 5)
    assert tail.records_read - before < 100
    assert again.of(np.arange(8 * BATCH)) == [{2: end_of(offset)} for offset in range(8 * BATCH)]
    await tail.stop()
