"""The embedded broker: librdkafka's mock cluster on a loopback port, no Java, no Docker.

It speaks the real protocol, in memory. It keeps 5 MiB or 100,000 records per partition
and drops the oldest without a word, so whoever publishes to it must not run ahead of the
pipeline (`MAX_IN_FLIGHT`), and it has no TLS, no compaction and no disk.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from topics.errors import MissingExtra

PARTITIONS = 4
"""Partitions of every topic that a mock cluster creates."""

MAX_IN_FLIGHT = 8_000
"""Events without a decision yet, so that no topic outgrows what a partition keeps."""

KEPT_BYTES = 5 * 2**20
"""Of each partition; the oldest record batches beyond that are dropped."""
MAX_BYTES_IN_FLIGHT = 3_500_000
"""Of those, in one partition: what a topic holds of them at most is less than it keeps."""

FETCH_WAIT_MS = 10
"""The mock holds an empty fetch for its whole wait even when data arrives meanwhile."""

_START_S = 60
"""How long the cluster may take to start: it is a matter of milliseconds, and of who else runs."""

LEADER_WAIT_S = 0.5
"""The mock refuses followers that sync after their group's leader: all join again then."""


class EmbeddedBroker:
    """A Kafka broker inside this process; it ends with the process.

    >>> with EmbeddedBroker() as broker:
    ...     broker.address.startswith("127.0.0.1:")
    True
    """

    def __init__(self) -> None:
        try:
            from confluent_kafka import Producer
        except ImportError as exc:
            raise MissingExtra("the embedded broker", "embedded") from exc
        # A producer whose only job is to own the mock cluster.
        self._owner = Producer(
            {"bootstrap.servers": "embedded:1", "test.mock.num.brokers": 1, "log_level": 0}
        )
        node = next(iter(self._owner.list_topics(timeout=_START_S).brokers.values()))
        self.address = f"{node.host}:{node.port}"

    def close(self) -> None:
        """End the cluster and all it holds."""
        del self._owner

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
