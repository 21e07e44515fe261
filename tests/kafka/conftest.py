"""Apache Kafka for a test session, and a pipeline of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import Trained, renamed
from tests.kafka_nodes import one_broker
from topics.settings import BrokerSettings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("kafka")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerSettings]:
    """Apache Kafka in a process of its own, with an empty log."""
    with one_broker(tmp_path_factory.mktemp("kafka")) as settings:
        yield settings


@pytest.fixture
def broker(kafka: BrokerSettings) -> BrokerSettings:
    """The broker by the name that integration tests know it by."""
    return kafka


@pytest.fixture
def own(kafka: BrokerSettings, trained: Trained, tmp_path: Path) -> Trained:
    """The trained pipeline by a new name: tests share the broker, but no topic and no group.

    It asks for *kafka* first so that nothing is trained where there is none.
    """
    return renamed(trained, tmp_path)
