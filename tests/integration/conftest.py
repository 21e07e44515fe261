"""An embedded broker; see harness.py for what is done with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from topics.kafka.embedded import EmbeddedBroker
from topics.settings import BrokerSettings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("integration")


@pytest.fixture
def broker() -> Iterator[BrokerSettings]:
    with EmbeddedBroker() as embedded:
        yield BrokerSettings(broker=embedded.address, embedded=True, session_timeout_s=6)
