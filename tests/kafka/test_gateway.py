"""Gateways on Apache Kafka, several side by side."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

from tests.integration.gateways import events_of, gateway_process, sources
from tests.integration.harness import Trained, settled, worker_process
from topics.settings import BrokerSettings

REQUESTS = 400


async def test_each_of_two_gateways_answers_with_the_decisions_of_its_own_events(
    own: Trained, broker: BrokerSettings
) -> None:
    events = events_of(own, REQUESTS)
    words = ("--deadline-ms", "60000")
    with (
        worker_process(own, broker),
        gateway_process(own, broker, *words) as one,
        gateway_process(own, broker, *words) as other,
        ThreadPoolExecutor(16) as pool,
    ):
        both = [*zip(events, cycle([one, other]), strict=False)]
        answers = [*pool.map(lambda asked: asked[1].predict(asked[0]), both)]
        assert {answer.status_code for answer in answers} == {200}
        records = [answer.json() for answer in answers]
        assert [record["event_id"] for record in records] == [e["transaction_id"] for e in events]
        assert len(set(sources(records))) == REQUESTS
        for record, place in list(zip(records, sources(records), strict=True))[::100]:
            assert one.get(f"/decisions?source={place}").json() == record
            assert other.get(f"/decisions/{record['event_id']}").json() == record
        audit = await asyncio.wait_for(settled(broker, own.pipeline, REQUESTS), 300)
    assert (audit.total.decided, audit.passed) == (REQUESTS, True)
