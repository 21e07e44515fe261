"""A source reads on when its last wave has landed, or has taken too long."""

from __future__ import annotations

import asyncio
import time

import pytest

from agents.workers import flow_control
from agents.workers.flow_control import FlowControl


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_control, "PATIENCE_S", 3600.0)


async def waited(steps: FlowControl) -> bool:
    """Whether the source has to wait."""
    turn = asyncio.create_task(steps.turn())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waits = not turn.done()
    turn.cancel()
    return waits


async def test_nothing_is_waited_for_at_first() -> None:
    assert not await waited(FlowControl())


async def test_a_wave_is_waited_for_until_all_its_partitions_are_decided() -> None:
    steps = FlowControl()
    steps.sent(0, 7)
    steps.sent(1, 3)
    assert await waited(steps)
    steps.decided(0, 7)
    assert await waited(steps)
    steps.decided(1, 5)
    assert not await waited(steps)


async def test_what_was_decided_before_it_was_said_to_be_sent_is_not_waited_for() -> None:
    steps = FlowControl()
    steps.decided(0, 7)
    steps.sent(0, 7)
    assert not await waited(steps)
    steps.sent(0, 8)
    assert await waited(steps)


async def test_a_wave_that_does_not_land_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_control, "PATIENCE_S", 0.01)
    steps = FlowControl()
    steps.sent(0, 7)
    began = time.monotonic()
    await steps.turn()
    assert time.monotonic() - began >= 0.01
    assert not await waited(steps), "it is given up for good"


async def test_a_wave_of_a_partition_that_is_weighed_elsewhere_is_not_waited_for() -> None:
    steps = FlowControl()
    here = [0]
    steps.weighed = lambda: here
    steps.sent(1, 7)
    assert not await waited(steps), "its decisions are another process's: none is told of here"
    steps.sent(0, 3)
    assert await waited(steps)
    here.clear()  # a rebalance
    steps.sent(1, 8)
    assert not await waited(steps)
