"""Writing what a monitor has to say: all of it, or nothing, and by the active one alone.

On a cluster by transactions of the id `<pipeline>.monitor`: who opens a writer shuts out those
before it, whose transactions end without a record. The embedded broker shuts nobody out, and of a
monitor that is killed there the last records may be there without the snapshot that covers them:
they are written again then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced, TransactionalIdAuthorizationFailed

from agents.monitor.errors import MonitorReplaced
from topics.errors import NotAuthorized, WriteTimeout
from topics.kafka import Record, client_options, close_client, write_batches
from topics.pipeline import MONITOR, Topology
from topics.settings import BrokerSettings

_WITHIN_S = 30.0
_ABORTED_AFTER_MS = 15_000
"""A monitor that dies in between holds up those that read what it writes for so long."""


class PartitionRecords(NamedTuple):
    """Records that are to be appended to a partition, in order."""

    topic: str
    partition: int
    records: Sequence[Record]


class MonitorWriter:
    """Writes for the active monitor."""

    def __init__(self, producer: AIOKafkaProducer, name: str, *, is_transactional: bool) -> None:
        self._producer, self._name = producer, name
        self._is_transactional = is_transactional

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, settings: BrokerSettings, topology: Topology
    ) -> AsyncIterator[MonitorWriter]:
        """A writer; writers before it write nothing any more. Raises NotAuthorized."""
        name = topology.group(MONITOR)
        options = {"enable_idempotence": True} if settings.embedded else {
            "transactional_id": name, "transaction_timeout_ms": _ABORTED_AFTER_MS,
        }  # fmt: skip
        producer = AIOKafkaProducer(**client_options(settings), acks="all", **options)
        try:
            async with asyncio.timeout(settings.give_up_s):
                await producer.start()
            yield cls(producer, name, is_transactional=not settings.embedded)
        except (ProducerFenced, InvalidProducerEpoch) as exc:
            raise MonitorReplaced(name) from exc
        except TransactionalIdAuthorizationFailed as exc:
            raise NotAuthorized(f"transactional id {name}", "to be used by us") from exc
        finally:
            await close_client(producer)

    async def write(self, parts: Sequence[PartitionRecords]) -> None:
        """Append all of it; returns when the broker has it. Raises MonitorReplaced, KafkaError."""
        if not self._is_transactional:
            await self._append(parts)
            return
        try:
            async with asyncio.timeout(_WITHIN_S), self._producer.transaction():
                await self._append(parts)
        except TimeoutError as exc:
            raise WriteTimeout(parts[-1].topic, parts[-1].partition, _WITHIN_S) from exc

    async def _append(self, parts: Sequence[PartitionRecords]) -> None:
        for topic, partition, records in parts:
            await write_batches(self._producer, topic, partition, records)
