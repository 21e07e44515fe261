"""Workers that are killed in mid-stream: what ends once before the crash ends once after it."""

from __future__ import annotations

import signal

import pytest

from tests.integration.harness import EVERYTHING, Trained, restarted_in_mid_stream
from topics.settings import BrokerSettings


@pytest.mark.parametrize(
    "components",
    [
        EVERYTHING,
        ["features"],
        ["risk-forest"],
        ["weigh"],
    ],
    ids=["everything", "features", "risk-forest", "weigh"],
)
async def test_a_killed_worker_loses_and_repeats_nothing(
    trained: Trained, broker: BrokerSettings, components: list[str]
) -> None:
    await restarted_in_mid_stream(trained, broker, components, signal.SIGKILL)


async def test_a_worker_that_is_told_to_stop_exits_with_0_and_repeats_nothing(
    trained: Trained, broker: BrokerSettings
) -> None:
    assert await restarted_in_mid_stream(trained, broker, EVERYTHING, signal.SIGTERM) == 0
