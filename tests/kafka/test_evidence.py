"""Evidence packs of events on Apache Kafka, whose topics are searched by time."""

from __future__ import annotations

from pathlib import Path

from tests.integration.test_evidence import prove_degraded_dead_and_redriven
from topics.settings import BrokerSettings


async def test_degraded_dead_and_redriven_events_are_proven(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    await prove_degraded_dead_and_redriven(tmp_path, broker)
