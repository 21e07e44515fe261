"""Writing only while this worker's lease lasts: what it gave up is never sent later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.protocol.produce import ProduceRequest

from topics.errors import LeaseLost
from topics.kafka import Headers, Record, aiokafka_fixes, write_batches

_LOOK_S = 0.1


class LeaseRefusal(KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """A request that came to be sent after the lease was lost. Not retriable."""


class LeasedWriter:
    """Writes with an idempotent producer, until the lease is lost in the middle of a write.

    That producer would go on sending for minutes: after a cut in the network, or when a frozen
    process wakes up, its records would arrive behind those of the worker that has the partitions
    now, as second decisions. So the lease (`topics.transport.lease`) is looked at before a write,
    while one is under way (`watch`), and right before each request leaves.
    """

    def __init__(self, producer: AIOKafkaProducer, check_lease: Callable[[], None]) -> None:
        self._producer = producer
        self._check_lease = check_lease
        self._under_way = 0
        self._nothing_under_way = asyncio.Event()
        self.severed: LeaseLost | None = None
        """Why nothing more can be written: the producer has lost count of what it has sent."""
        self._guard_requests()

    async def write(
        self,
        topic: str,
        partition: int,
        records: Iterable[Record],
        headers: Headers | None = None,
    ) -> None:
        """Append *records*, each with *headers* too; returns when all in-sync replicas have them.

        Raises LeaseLost, and KafkaError when the broker does not confirm: some may be written
        then, but none after this has raised LeaseLost.
        """
        self._check()
        self._under_way += 1
        self._nothing_under_way.clear()
        try:
            await write_batches(self._producer, topic, partition, records, headers)
        except LeaseRefusal:
            self._check()
            raise
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._nothing_under_way.set()

    async def written(self) -> None:
        """Return when nothing is being written, not even what has begun meanwhile."""
        while self._under_way:
            await self._nothing_under_way.wait()

    async def watch(self) -> None:
        """Give up what is being written when the lease is lost meanwhile; never returns."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._under_way and self.severed is None:
                try:
                    self._check_lease()
                except LeaseLost as exc:
                    self._sever(exc)

    def _check(self) -> None:
        if self.severed is not None:
            raise self.severed
        self._check_lease()

    def _guard_requests(self) -> None:
        client = self._producer.client
        send, ready = client.send, client.ready

        async def send_while_leased(node: int, request: Any, **options: Any) -> Any:
            if isinstance(request, ProduceRequest):
                await ready(node, **options)  # connecting takes its time: not after the look
                try:
                    self._check()
                except LeaseLost as exc:
                    self.severed = exc
                    raise LeaseRefusal(str(exc)) from exc
            return await send(node, request, **options)

        client.send = send_while_leased

    def _sever(self, cause: LeaseLost) -> None:
        """Send nothing more, not even what the kernel still has of a request.

        Requests under way fail, are tried again by the producer, and refused.
        """
        self.severed = cause
        aiokafka_fixes.sever(self._producer)
