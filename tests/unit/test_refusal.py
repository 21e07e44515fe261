"""A worker that refuses its topics says so before it ends."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import generate_latest

from agents.process.liveness import Liveness
from agents.process.refusal import refusal_in, show_refusal
from agents.process.supervision import ComponentStopped
from agents.workers.metrics import Metrics
from topics.errors import BrokerUnreachable, TopicMismatch, TopicRecreated

MISMATCH = TopicMismatch("p.events", 6, 4)
SERIES = 'anabranch_topic_mismatch{pipeline="p",reason="partitions",topic="p.events"} 1.0'


async def test_a_refusal_is_told_for_a_while_and_raised_then() -> None:
    metrics, liveness, stopping = Metrics(), Liveness(60), asyncio.Event()
    liveness.ready = True

    async def refuse() -> None:
        async with show_refusal("p", metrics, liveness, stopping, 3600):
            raise MISMATCH

    refusing = asyncio.create_task(refuse())
    await asyncio.sleep(0)  # it has begun to tell, and waits
    assert liveness.refused is not None
    assert "p.events has 6 partitions, the pipeline file says 4" in liveness.refused
    assert not liveness.ready
    assert SERIES in generate_latest(metrics.registry).decode()
    assert not refusing.done()
    stopping.set()
    with pytest.raises(TopicMismatch):
        await asyncio.wait_for(refusing, 30)


async def test_without_a_port_nobody_is_kept_waiting() -> None:
    metrics, liveness = Metrics(), Liveness(60)
    with pytest.raises(TopicMismatch):
        async with show_refusal("p", metrics, liveness, asyncio.Event(), 0):
            raise MISMATCH
    assert liveness.refused is None


async def test_what_is_no_refusal_ends_the_process_at_once() -> None:
    with pytest.raises(BrokerUnreachable):
        async with show_refusal("p", Metrics(), Liveness(60), asyncio.Event(), 3600):
            raise BrokerUnreachable("host:9092", 1)


def test_a_component_that_failed_by_a_refusal_is_one() -> None:
    recreated = TopicRecreated("p.events", "evidence", "p")
    failed = ComponentStopped("features", recreated)
    failed.__cause__ = recreated
    assert refusal_in(failed) is recreated
    assert refusal_in(recreated) is recreated
    assert refusal_in(ComponentStopped("features", ValueError())) is None
    assert refusal_in(None) is None
