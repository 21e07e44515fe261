"""Workers that are killed in mid-stream: what ends once before the crash ends once after it."""

from __future__ import annotations

import asyncio
import signal
from contextlib import nullcontext

import pytest

from tests.integration.harness import (
    Trained,
    decided,
    decisions_of,
    publish,
    settled,
    simulated,
    stopped,
    worker_process,
)
from topics.settings import BrokerSettings

EVENTS = 8000
RATE = 2500.0


async def _killed(
    trained: Trained, broker: BrokerSettings, components: list[str], number: signal.Signals
) -> int | None:
    """Publish, end the workers of *components* half-way with *number*, start them again."""
    events = simulated(trained.pipeline, EVENTS)
    others = [
        name
        for name in ("features", "risk-linear", "risk-forest", "decision", "weigh")
        if name not in components
    ]
    publishing = asyncio.create_task(publish(broker, trained.pipeline, events, RATE))
    with worker_process(trained, broker, *others) if others else nullcontext():
        with worker_process(trained, broker, *components) as first:
            await decided(broker, trained.pipeline, EVENTS // 3)
            code = await asyncio.to_thread(stopped, first, number)
        with worker_process(trained, broker, *components):
            await publishing
            audit = await settled(broker, trained.pipeline, EVENTS)
    assert (audit.total.lost, audit.total.duplicated) == (0, 0)
    assert audit.total.decided == EVENTS
    decisions = await decisions_of(broker, trained.pipeline)
    sources = [(d["source"]["partition"], d["source"]["offset"]) for d in decisions]  # type: ignore[index]
    assert len(set(sources)) == len(sources) == EVENTS
    by_partition = [[o for p, o in sources if p == partition] for partition in range(4)]
    assert by_partition == [sorted(offsets) for offsets in by_partition], "order per partition"
    return code


@pytest.mark.parametrize(
    "components",
    [
        ["features", "risk-linear", "risk-forest", "decision", "weigh"],
        ["features"],
        ["risk-forest"],
        ["weigh"],
    ],
    ids=["everything", "features", "risk-forest", "weigh"],
)
async def test_a_killed_worker_loses_and_repeats_nothing(
    trained: Trained, broker: BrokerSettings, components: list[str]
) -> None:
    await _killed(trained, broker, components, signal.SIGKILL)


async def test_a_worker_that_is_told_to_stop_exits_with_0_and_repeats_nothing(
    trained: Trained, broker: BrokerSettings
) -> None:
    everything = ["features", "risk-linear", "risk-forest", "decision", "weigh"]
    assert await _killed(trained, broker, everything, signal.SIGTERM) == 0
