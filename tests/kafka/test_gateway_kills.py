"""Gateways as they ship, killed in mid-request twenty times: one decision for each key."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import aiokafka
import httpx
import orjson
import pytest

from tests.integration.gateways import RunningGateway, gateway_process
from tests.integration.harness import PATIENCE_S, worker_process
from tests.integration.test_explain import own_components
from tests.integration.test_gateway_refusals import event
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

KILLS, REQUESTS = 20, 10
LATEST = 2.0
"""Of the time that requests like these have just taken."""


def ask(client: httpx.Client, gateway: RunningGateway, name: str) -> httpx.Response:
    content = event(name, customer_id=f"c-{name}")
    return client.post(f"{gateway.url}/predict", json=content, headers={"idempotency-key": name})


def asked_again(client: httpx.Client, gateway: RunningGateway, name: str) -> httpx.Response:
    """As a client does: with the same key, until there is an answer."""
    deadline = time.monotonic() + PATIENCE_S
    while (answer := ask(client, gateway, name)).status_code != 200:
        assert answer.status_code in (503, 504), answer.text
        assert time.monotonic() < deadline, answer.text
    return answer


async def counted(broker: BrokerSettings, topic: str, field: str, least: int) -> Counter[str]:
    """How often each event is on *topic*, by a consumer that knows nothing of us."""
    consumer = aiokafka.AIOKafkaConsumer(
        topic, bootstrap_servers=broker.broker, auto_offset_reset="earliest",
        enable_auto_commit=False,
    )  # fmt: skip
    found = Counter[str]()
    await consumer.start()
    try:
        while fetched := await consumer.getmany(timeout_ms=3000):
            found.update(
                orjson.loads(record.value)[field]
                for records in fetched.values() for record in records
            )  # fmt: skip
    finally:
        await consumer.stop()
    assert found.total() >= least
    return found


@pytest.mark.timeout(400)
async def test_each_key_has_one_decision_whenever_gateways_are_killed(
    kafka: BrokerSettings, tmp_path: Path
) -> None:
    own, chance = own_components(tmp_path, "fail", "killed"), random.Random(20)  # no secret
    topology, killed_at = Topology.of(own.pipeline), list[float]()
    first: dict[str, httpx.Response | BaseException] = {}
    again: dict[str, Future[httpx.Response]] = {}
    with (
        worker_process(own, kafka),
        gateway_process(own, kafka) as survivor,
        ThreadPoolExecutor(REQUESTS) as pool,
        ThreadPoolExecutor(REQUESTS) as retries,
        httpx.Client(timeout=PATIENCE_S) as client,
    ):
        for kill in range(KILLS):
            names = [f"kill-{kill}-{number}" for number in range(REQUESTS)]
            with gateway_process(own, kafka) as victim:
                began = time.monotonic()
                warm = [pool.submit(ask, client, victim, f"warm-{name}") for name in names]
                assert {each.result().status_code for each in warm} == {200}
                killed_at.append((time.monotonic() - began) * chance.uniform(0, LATEST))
                asked = {name: pool.submit(ask, client, victim, name) for name in names}
                await asyncio.sleep(killed_at[-1])
                victim.process.kill()
                first |= {name: each.exception() or each.result() for name, each in asked.items()}
            again |= {name: retries.submit(asked_again, client, survivor, name) for name in names}
        answers = {name: each.result() for name, each in again.items()}
    answered = 0
    for name, before in first.items():
        if isinstance(before, httpx.Response) and before.status_code == 200:
            answered += 1
            assert before.json() == answers[name].json()
    print(f"killed after {[round(at * 1000) for at in killed_at]} ms: {answered} had an answer")
    assert 0 < answered < len(first), "every kill was before, or after, all that was asked"
    once = Counter(dict.fromkeys((*first, *(f"warm-{name}" for name in first)), 1))
    assert await counted(kafka, topology.events, "transaction_id", len(once)) == once
    assert await counted(kafka, topology.decisions, "event_id", len(once)) == once
