"""A decision is about the event at its coordinates, or the topic is another one."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from aiokafka.structs import TopicPartition

from agents.audit.end_batches import Ends
from agents.audit.identity_sample import IdentitySample, difference
from agents.broker.log_reader import FetchResult, LogReader
from agents.broker.record_batches import record_batches
from tests.unit.record_batch_bytes import batch_bytes
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.records.decision import rfc3339_time

NOW_MS = 1_700_000_000_000
TOPOLOGY = Topology("p", ("a",), 1)


def decision(latency_ms: int, event_id: str = "tx-1") -> bytes:
    content = {"event_id": event_id, "decided_at": rfc3339_time(NOW_MS), "latency_ms": latency_ms}
    return json.dumps(content).encode()


def said(published_ms: int, value: bytes, decided: bytes) -> str:
    event = SimpleNamespace(timestamp=published_ms, value=value)
    return difference(event, SimpleNamespace(value=decided))


@pytest.mark.parametrize(
    ("published_ms", "value", "decided"),
    [
        (NOW_MS - 7, b'{"id": "tx-1"}', decision(7)),
        (NOW_MS - 7, b'{"data": {"id": "tx-1"}}', decision(7)),
        (NOW_MS + 50, b'{"id": "tx-1"}', decision(0)),
        (NOW_MS - 7, b"no event", decision(7)),
        (NOW_MS - 7, b'{"id": 12}', decision(7, "12")),
        (NOW_MS - 7, b'{"id": 12.0}', decision(7, "12")),
        (NOW_MS - 9999, b'{"id": "tx-1"}', b"no decision"),
        (NOW_MS - 9999, b'{"id": "tx-1"}', b'{"decided_at": "never"}'),
    ],
)
def test_nothing_speaks_against_its_own_event(
    published_ms: int, value: bytes, decided: bytes
) -> None:
    assert said(published_ms, value, decided) == ""


@pytest.mark.parametrize(
    ("published_ms", "value", "decided", "reason"),
    [
        (NOW_MS - 8, b'{"id": "tx-1"}', decision(7), "was published at"),
        (NOW_MS + 1000, b'{"id": "tx-1"}', decision(7), "was published at"),
        (NOW_MS - 1, b'{"id": "tx-1"}', decision(0), "was published at"),
        (NOW_MS - 7, b'{"id": "tx-2"}', decision(7), "'tx-1'"),
    ],
)
def test_another_time_or_another_id_is_another_event(
    published_ms: int, value: bytes, decided: bytes, reason: str
) -> None:
    assert reason in said(published_ms, value, decided)


class Log(LogReader):
    """A broker's partitions from memory."""

    def __init__(self, **topics: bytes) -> None:
        self._topics = {f"p.{name}": data for name, data in topics.items()}

    async def fetch(self, positions: object) -> dict[TopicPartition, FetchResult]:
        assert isinstance(positions, dict)
        return {
            tp: FetchResult(
                [
                    batch
                    for batch in record_batches(self._topics[tp.topic], (), check=True)
                    if batch.next_offset > at
                ]
            )
            for tp, at in positions.items()
        }


async def test_the_first_decided_events_are_always_looked_at() -> None:
    """Of 10,000 decisions the first ten are of a topic that is no more."""
    n, old = 10_000, 10
    events = [Record(b"", b'{"id": "tx-1"}', NOW_MS - 7)] * n
    of = [decision(9 if at < old else 7) for at in range(n)]
    log = Log(
        events=batch_bytes(events), decisions=batch_bytes([Record(b"", one, 5) for one in of])
    )
    sample = IdentitySample(TOPOLOGY)
    for first in range(0, n, 100):
        at = np.arange(first, first + 100)
        sample.offer(0, Ends(at, at, [], 0), 0)
    found = await sample.mismatches(log)
    assert [(one.source, one.decision) for one in found] == [(0, 0), (1, 1)]


async def test_events_that_have_expired_are_compared_with_nothing() -> None:
    sample = IdentitySample(TOPOLOGY)
    at = np.arange(10)
    sample.offer(0, Ends(at, at, [], 0), 10)
    assert await sample.mismatches(Log(events=b"", decisions=b"")) == []
