"""Which source records are taken for those that were dealt with."""

from __future__ import annotations

import orjson
import pytest
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.identity.source_identity import (
    SOURCE_IDS,
    Mark,
    check_identity,
    difference_from,
    headers_by_topic,
    source_headers,
)
from agents.recovery.source_continuity import check_continues
from tests.unit.stage_batches import batch_of
from tests.unit.topic_log import TopicLog, record
from topics.errors import TopicRecreated
from topics.kafka.topic_identity import TopicIdentity
from topics.pipeline.topology import Topology
from topics.records.decision import rfc3339
from topics.records.heartbeat import Heartbeat
from topics.records.wire import encode

EVENTS = TP("p.events", 0)
FEATURES = TP("p.features", 0)
DECISIONS = TP("p.decisions", 0)


def event(offset: int, **other: object) -> ConsumerRecord:
    """The source record that `rows_of` tells of."""
    published_ms = int(str(other.get("published_ms", offset + 1000)))
    key = b"key-%d" % (offset % 3)
    value = orjson.dumps({"id": other.get("id", f"event-{offset}")})
    return record("p.events", offset, value, key=key, published_ms=published_ms)


def output(at: int, offsets: list[int], id_: str | None = None) -> ConsumerRecord:
    """A stage batch; *id_* is that of the source when it was made."""
    value, headers = encode(batch_of("features", offsets))
    ids = [] if id_ is None else [(SOURCE_IDS, f"events={id_}".encode())]
    return record("p.features", at, value, headers=[*headers, *ids])


def decision(at: int, offset: int, latency_ms: float = 5, attempt: int = 1) -> ConsumerRecord:
    value = {
        "event_id": f"event-{offset}", "pipeline": "p", "decision": "approve", "score": 0.5,
        "contributions": {}, "degraded": False, "missing": [], "weights": 1, "policy": "p@1",
        "source": {"topic": "p.events", "partition": 0, "offset": offset},
        "event_time": rfc3339(0), "decided_at": rfc3339(offset + 1000 + int(latency_ms)),
        "latency_ms": latency_ms,
    }  # fmt: skip
    headers = [("ce_id", f"p.events/0/{offset}".encode())]
    if attempt > 1:
        headers.append(("x-redrive-attempt", b"%d" % attempt))
    key = b"key-%d" % (offset % 3)
    return record("p.decisions", at, orjson.dumps(value), key=key, headers=headers)


def topic(id_: str | None, *offsets: int, **other: object) -> TopicLog:
    """A broker with an events topic of that id, and events at *offsets*."""
    log = TopicLog({"p.events": TopicIdentity(id_, 1)})
    log.write(event(offset, **other) for offset in offsets)
    return log


async def refusal(log: TopicLog, *outputs: TP) -> str:
    with pytest.raises(TopicRecreated) as caught:
        await check_identity(log, EVENTS, outputs)
    return str(caught.value)


async def test_outputs_of_another_id_are_refused_however_alike_the_records_are() -> None:
    log = topic("new", *range(30))
    log.write([output(0, [*range(10)], "old")])
    told = await refusal(log, FEATURES)
    assert "p.events has the id new, but p.features was made of the topic of that name" in told
    assert "delete its consumer groups (p.…)" in told
    assert "all of its topics but its sources and p.control" in told


async def test_outputs_of_the_same_id_are_enough_and_no_record_is_looked_at() -> None:
    log = topic("same", *range(30), published_ms=7)
    log.write([output(0, [*range(10)], "same")])
    await check_identity(log, EVENTS, [FEATURES])


async def test_an_older_id_among_the_newest_outputs_is_refused() -> None:
    log = topic("new", *range(30))
    log.write([output(0, [0], "old"), output(1, [1], "new")])
    await refusal(log, FEATURES)


async def test_records_without_rows_hide_no_outputs() -> None:
    log = topic("new", *range(30))
    log.write([output(0, [0], "old")])
    log.write(
        record("p.features", at, b"{}", headers=[(SOURCE_IDS, b"events=new")])
        for at in range(1, 20_000)
    )
    await refusal(log, FEATURES)


async def test_heartbeats_tell_the_id_of_a_worker_that_has_compared_the_source_and_no_other() -> (
    None
):
    def heartbeat(at: int, id_: str, frontier: int) -> ConsumerRecord:
        said = Heartbeat(component="features", partition=0, worker="w", state="working",
                         frontier=frontier).record(0)  # fmt: skip
        headers = [*said.headers, (SOURCE_IDS, f"events={id_}".encode())]
        return record("p.features", at, said.value, headers=headers)

    log = topic("new", *range(30))
    log.write([output(0, [0], "old"), *(heartbeat(at, "new", -1) for at in range(1, 300))])
    await refusal(log, FEATURES)
    log = topic("same", *range(30))
    log.write([output(0, [0], "old"), *(heartbeat(at, "same", 0) for at in range(1, 300))])
    await check_identity(log, EVENTS, [FEATURES])


@pytest.mark.parametrize("id_", [None, "new"])
async def test_outputs_that_name_no_id_are_compared_with_the_records(id_: str | None) -> None:
    log = topic(id_, *range(100))
    log.write([output(0, [*range(40)]), output(1, [*range(40, 60)])])
    log.write(decision(at, at) for at in range(50))
    await check_identity(log, EVENTS, [FEATURES, DECISIONS])
    other = topic(id_, *range(100), published_ms=7)
    other.write([output(0, [*range(40)])])
    assert "that was published at 1970-01-01T00:00:01.024Z, this at 1970-01-01T00:00:00.007Z" in (
        await refusal(other, FEATURES)
    )
    other = topic(id_, *range(100), published_ms=7)
    other.write([decision(0, 12)])
    assert "p.events[0]@12 is not the record that was dealt with" in await refusal(other, DECISIONS)


async def test_rows_of_the_new_topic_do_not_hide_the_old_ones() -> None:
    log = topic(None, *range(100))
    old, new = batch_of("features", [*range(10)]), output(9, [*range(10, 20)])
    value, headers = encode(old)
    log.write([record("p.features", 0, value, headers=headers)])
    log.write(output(at, [10 + at]) for at in range(1, 9))
    log.write([new])
    log.records[EVENTS][:10] = [event(offset, published_ms=7) for offset in range(10)]
    assert "p.events[0]@0 is not the record" in await refusal(log, FEATURES)


async def test_what_was_deleted_or_compacted_away_is_no_sign() -> None:
    log = topic(None, 50, 70, 90)
    log.write([output(0, [*range(60)])])
    await check_identity(log, EVENTS, [FEATURES])
    log.first[EVENTS] = 60
    await check_identity(log, EVENTS, [FEATURES])


async def test_outputs_of_other_partitions_and_of_others_are_passed_over() -> None:
    log = topic(None, *range(10), published_ms=7)
    log.write([record("p.features", 0, b"junk"), record("p.features", 1, None)])
    await check_identity(log, TP("p.events", 3), [FEATURES])
    await check_identity(log, EVENTS, [FEATURES, DECISIONS])


async def test_a_source_that_is_hidden_or_gone_is_not_compared_by_id() -> None:
    log = topic("any", *range(10))
    log.write([output(0, [3], "old")])
    for topics in ({}, {"p.events": None}):
        log.topics = dict(topics)
        await check_identity(log, EVENTS, [FEATURES])


async def test_a_source_that_ends_before_what_was_dealt_with_is_refused() -> None:
    log = topic("same", *range(10))
    with pytest.raises(TopicRecreated, match=r"ends at offset 10, but offset 10 has been dealt"):
        await check_continues(log, "p.events", 0, 10)
    await check_continues(log, "p.events", 0, 9)
    await check_continues(log, "p.events", 0, -1)


async def test_the_decision_of_a_redriven_event_may_have_another_id_and_key() -> None:
    log = topic(None, *range(10), id="mended")
    log.write([decision(0, 4, attempt=2)])
    await check_identity(log, EVENTS, [DECISIONS])
    log.write([decision(1, 5)])
    assert "that was the event event-5, which this does not name" in await refusal(log, DECISIONS)


async def test_an_event_of_the_future_was_published_at_its_decision_or_later() -> None:
    log = topic(None, 4, published_ms=99_000)
    log.write([decision(0, 4, latency_ms=0)])
    await check_identity(log, EVENTS, [DECISIONS])
    log = topic(None, 4, published_ms=1003)
    log.write([decision(0, 4, latency_ms=0)])
    await refusal(log, DECISIONS)


def test_a_record_differs_by_time_key_or_id_as_far_as_they_are_known() -> None:
    mark = Mark(4, 1004, b"key-1", b"event-4")
    assert difference_from(mark, event(4)) is None
    assert difference_from(mark._replace(published_ms=1005), event(4)) is not None
    assert difference_from(mark._replace(key=b"other"), event(4)) is not None
    assert difference_from(mark._replace(key=b""), event(4)) is None
    assert difference_from(mark._replace(event_id=b"event-5"), event(4)) is not None
    assert difference_from(mark._replace(event_id="é".encode()), event(4)) is None
    assert difference_from(mark._replace(event_id=b""), event(4)) is None
    no_key = record("p.events", 4, b'{"id": "event-4"}', published_ms=1004)
    assert difference_from(mark, no_key) is None


def test_what_is_made_of_sources_names_them_by_id_and_nothing_else_does() -> None:
    topology = Topology("p", ("features", "terminals"), 4, (), ("terminals",), ("terminals",))
    known = {"p.events": TopicIdentity("E", 4), "p.outcomes": TopicIdentity("O", 4)}
    events, both = [(SOURCE_IDS, b"events=E")], [(SOURCE_IDS, b"events=E outcomes=O")]
    assert headers_by_topic(topology, known) == {
        "p.features": events, "p.terminals": events, "p.decisions": events,
        "p.terminals.keyed": both,
    }  # fmt: skip
    assert source_headers({"p.events": TopicIdentity(None, 4)}, ["p.events"]) == []
    assert source_headers({}, ["p.events"]) == []
