"""A rolling upgrade of Anabranch itself: workers of an earlier version beside those of this one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from models.simulators import LabelledEvent
from tests.faults.conftest import EVENTS, Judge, signals_of
from tests.faults.scene import streaming
from tests.faults.test_workers import RATE
from tests.integration.harness import renamed
from tests.upgrade import earlier
from topics.settings import BrokerSettings

HALVES = (("features", "terminals", "decision"), ("risk-linear", "risk-forest", "weigh"))
"""Every other stage: whatever one version writes the other one reads."""


@pytest.mark.core
async def test_workers_of_an_earlier_version_are_replaced_one_after_the_other(
    tmp_path: Path, kafka: BrokerSettings, events: list[LabelledEvent], judge: Judge
) -> None:
    trained = renamed(earlier.home(tmp_path / "trained"), tmp_path)
    code = earlier.code(tmp_path / "code")
    async with streaming(trained, kafka, events, rate=RATE) as scene:
        # One of each: two of that version that join a group together may do so for ever.
        earlier_workers = [scene.workers(*half, code=code) for half in HALVES]
        await scene.ended(EVENTS // 16)
        for half in HALVES:
            await scene.workers(*half).up()
            await scene.recovered()
        for worker in earlier_workers:
            worker.signal(signal.SIGTERM)
            await worker.ended(30)
            scene.workers(*worker.components)
            await scene.recovered()
        await scene.ended(EVENTS)
    await judge(scene, signals_of(trained, events))
