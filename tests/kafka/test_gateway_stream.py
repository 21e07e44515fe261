"""The stream of decisions on Apache Kafka: readers that come and go, and what they never miss."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice

import httpx

from agents.broker import ensure_topics
from tests.integration.event_source import ServerEvent, event_source, events_of_lines
from tests.integration.gateways import RunningGateway, gateway_process, sources
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    decisions_of,
    publish,
    settled,
    simulated,
    worker_process,
)
from tests.kafka.test_audit import trimmed
from topics.pipeline import Topology
from topics.settings import BrokerSettings

EVENTS = 2000
SLOW_EVENTS = 6000
SMALL_BUFFER = 1_000_000


def read_on(
    gateways: Sequence[Callable[[], RunningGateway]], count: int, seed: int
) -> list[ServerEvent]:
    """*count* events by a reader that goes away now and then, and comes again elsewhere."""
    chance, seen, last_id = random.Random(seed), list[ServerEvent](), ""
    while len(seen) < count:
        wanted = min(chance.randint(1, 400), count - len(seen))
        try:
            with event_source(chance.choice(gateways)(), "?from=beginning", last_id) as events:
                for event in islice(events, wanted):
                    seen.append(event)
                    last_id = event.id
        except httpx.HTTPError:  # that gateway was killed
            time.sleep(0.2)
    return seen


async def test_readers_that_come_and_go_have_each_decision_once(
    own: Trained, broker: BrokerSettings
) -> None:
    events = simulated(own.pipeline, EVENTS)
    with (
        worker_process(own, broker),
        gateway_process(own, broker) as lasting,
        gateway_process(own, broker) as victim,
    ):
        current = victim
        reading = [
            asyncio.create_task(
                asyncio.to_thread(read_on, (lambda: lasting, lambda: current), EVENTS, seed)
            )
            for seed in range(4)
        ]
        await publish(broker, own.pipeline, events[: EVENTS // 2], 500)
        victim.process.kill()
        with gateway_process(own, broker) as another:
            current = another
            await publish(broker, own.pipeline, events[EVENTS // 2 :], 500)
            readers = await asyncio.wait_for(asyncio.gather(*reading), PATIENCE_S)
    whole = sorted(sources(await decisions_of(broker, own.pipeline)))
    assert len(whole) == EVENTS
    for seen in readers:
        streamed = sources([event.data for event in seen])
        assert sorted(streamed) == whole
        for partition in range(own.pipeline.partitions):
            offsets = [e.data["source"]["offset"] for e in seen
                       if e.data["source"]["partition"] == partition]  # fmt: skip
            assert offsets == sorted(offsets), "the order of a partition is its own"


async def test_what_retention_has_deleted_is_told(own: Trained, broker: BrokerSettings) -> None:
    topology = Topology.of(own.pipeline)
    await ensure_topics(broker, topology)
    with worker_process(own, broker), gateway_process(own, broker) as gateway:
        await publish(broker, own.pipeline, simulated(own.pipeline, 200), 1000)
        await asyncio.wait_for(settled(broker, own.pipeline, 200), PATIENCE_S)
        seen = await asyncio.to_thread(read_on, [lambda: gateway], 200, 1)
        first = next(e for e in seen if e.data["source"]["partition"] == 1)
        behind = Counter(event.data["source"]["partition"] for event in seen)
        await trimmed(broker, topology.decisions, 1, 20)
        with event_source(gateway, "", first.id) as rest:
            gap = next(rest)
            later = [*islice(rest, 200 - seen.index(first) - 1 - 19)]
        assert gap.name == "gap"
        assert gap.data["missing"] == [
            {"topic": topology.decisions, "partition": 1, "from": 1, "to": 20,
             "because": "retention"}
        ]  # fmt: skip
        counts = Counter(event.data["source"]["partition"] for event in later)
        assert counts[1] == behind[1] - 20
        with event_source(gateway, "?from=beginning") as fresh:
            assert next(fresh).name == "decision", "who asks for what there is misses nothing"


async def test_a_reader_that_is_too_slow_is_sent_away_and_misses_nothing(
    own: Trained, broker: BrokerSettings
) -> None:
    words = ("--stream-buffer", str(SMALL_BUFFER))
    with (
        worker_process(own, broker),
        gateway_process(own, broker, *words) as gateway,
        socket.socket() as slow,
    ):
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", gateway.port))
        slow.sendall(b"GET /decisions/stream HTTP/1.1\r\nhost: x\r\n\r\n")
        await publish(broker, own.pipeline, simulated(own.pipeline, SLOW_EVENTS), 1000)
        await asyncio.wait_for(settled(broker, own.pipeline, SLOW_EVENTS), PATIENCE_S)
        slow.settimeout(PATIENCE_S)
        content = b""
        while not content.endswith(b"0\r\n\r\n"):
            content += slow.recv(2**20)
        events = [*events_of_lines(iter(unchunked(content).decode().split("\n")))]
        shed = events[-1]
        assert shed.name == "shed"
        text = gateway.get("/metrics").text
        assert 'anabranch_gateway_shed_streams_total{pipeline="' in text
        missing = SLOW_EVENTS - (len(events) - 1)
        assert 0 < shed.data["skipped"] <= missing
        with event_source(gateway, "", shed.id) as again:
            rest = [*islice(again, missing)]
    assert {event.name for event in [*events[:-1], *rest]} == {"decision"}
    whole = sources([event.data for event in [*events[:-1], *rest]])
    assert len({*whole}) == len(whole) == SLOW_EVENTS


def unchunked(answer: bytes) -> bytes:
    """The body of an answer in chunks."""
    body, rest = b"", answer.partition(b"\r\n\r\n")[2]
    while (length := int(rest.partition(b"\r\n")[0], 16)) > 0:
        start = rest.index(b"\r\n") + 2
        body += rest[start : start + length]
        rest = rest[start + length + 2 :]
    return body
