"""Writing only while this worker's lease lasts: what it gave up is never sent later."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaProducer

from topics.batches import Record, write_batches
from topics.errors import LeaseLost

_LOOK_S = 0.1
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: a close drops what the kernel has not sent yet."""


class LeasedWriter:
    """Writes with an idempotent producer, until the lease is lost in the middle of a write.

    That producer would go on sending for minutes: after a cut in the network its records would
    arrive behind those of the worker that has the partitions now, as second decisions.
    """

    def __init__(self, producer: AIOKafkaProducer, check_lease: Callable[[], None]) -> None:
        self._producer = producer
        self._check_lease = check_lease
        self._requests: set[asyncio.Task[Any]] = set()
        self._remember_requests()
        self.severed: LeaseLost | None = None
        """Why nothing more can be written."""

    async def write(self, topic: str, partition: int, records: Iterable[Record]) -> None:
        """Append *records* in order; returns when all in-sync replicas have them.

        Raises LeaseLost, and KafkaError when the broker does not confirm: some may be written
        then, but none after this has raised LeaseLost.
        """
        self._check()
        writing = asyncio.create_task(write_batches(self._producer, topic, partition, records))
        try:
            while not (await asyncio.wait({writing}, timeout=_LOOK_S))[0]:
                self._check()
        except LeaseLost as exc:
            self._sever(exc)
            raise
        finally:
            writing.cancel()
        await writing

    def _check(self) -> None:
        if self.severed is not None:
            raise self.severed
        self._check_lease()

    def _remember_requests(self) -> None:
        sender = self._producer._sender
        send = sender._send_produce_req

        async def send_produce_req(node: int, batches: Any) -> None:
            request = asyncio.create_task(send(node, batches))
            self._requests.add(request)
            request.add_done_callback(self._requests.discard)
            await request

        sender._send_produce_req = send_produce_req

    def _sever(self, cause: LeaseLost) -> None:
        """Send nothing more, neither what waits nor what is under way."""
        self.severed = cause
        self._producer._sender.sender_task.cancel()
        for request in self._requests:
            request.cancel()
        for connection in self._producer.client._conns.values():
            transport = connection._writer.transport
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _RESET
            )
            transport.abort()
