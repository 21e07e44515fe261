"""Reading and writing the control topic."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Self
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord, TopicPartition
from pydantic import BaseModel

from agents.brokers import topic_names
from agents.following import ends_of, follower
from topics.batches import write_batches
from topics.clients import close
from topics.connection import client_options
from topics.control import PARTITION, AuditEntry, ControlState, audit_key, records
from topics.errors import TopicMissing, WireError
from topics.settings import BrokerSettings
from topics.topology import Topology

log = logging.getLogger(__name__)

_WAIT_MS = 200
WORKER = f"{socket.gethostname()}-{os.getpid()}".replace("/", "-")
"""How this process is called on the topic."""


def now() -> str:
    """The time, as records of the topic have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class ControlTopic:
    """The control topic of one pipeline: its state, and whatever comes."""

    def __init__(self, settings: BrokerSettings, topology: Topology) -> None:
        self.state = ControlState()
        self.topic = topology.control
        self._topology = topology
        self._settings = settings
        self._on = TopicPartition(self.topic, PARTITION)
        self._open = AsyncExitStack()
        self._producer: AIOKafkaProducer | None = None
        self._writing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Read all that is there. Raises TopicMissing."""
        await self.check_topic(self.topic)
        end = (await ends_of(self._settings, [self._on]))[self._on]
        self._consumer = await self._open.enter_async_context(
            follower(self._settings, [self.topic], PARTITION + 1, from_start=True, wait_ms=_WAIT_MS)
        )
        await self._read_to(end)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def check_topic(self, topic: str) -> None:
        """Raise TopicMissing unless *topic* is there: a client would wait for it."""
        if topic not in await topic_names(self._settings, [topic]):
            raise TopicMissing(topic)

    async def state_at_start(self) -> ControlState:
        """The state without challengers that have no topic: `agents.swapping` refuses those."""
        topics = {
            name: self._topology.shadow(name)
            for name, it in self.state.deployments.items()
            if it.challenger is not None
        }
        there = await topic_names(self._settings, topics.values()) if topics else set()
        alone = {
            name: self.state.deployments[name].model_copy(update={"challenger": None})
            for name, topic in topics.items()
            if topic not in there
        }
        return replace(self.state, deployments={**self.state.deployments, **alone})

    async def catch_up(self) -> None:
        """Read to what is the end now."""
        await self._read_to((await ends_of(self._settings, [self._on]))[self._on])

    async def _read_to(self, end: int) -> None:
        while await self._consumer.position(self._on) < end:
            await self.more()

    async def more(self) -> bool:
        """Take in what comes within a moment; whether anything did."""
        fetched = await self._consumer.getmany(self._on, timeout_ms=_WAIT_MS)
        for record in fetched.get(self._on, []):
            self._apply(record)
        return bool(fetched)

    def _apply(self, record: ConsumerRecord) -> None:
        try:
            self.state.apply(record.key, record.value)
        except WireError as exc:
            log.warning("%s[%d]@%d skipped: %s", record.topic, record.partition, record.offset, exc)

    async def write(self, said: Mapping[str, BaseModel]) -> None:
        """Append records by key, in order; returns when all in-sync replicas have them."""
        async with self._writing:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **client_options(self._settings), acks="all", enable_idempotence=True
                )
                self._open.push_async_callback(close, producer)
                await producer.start()
                self._producer = producer
            now_ms = int(datetime.now(UTC).timestamp() * 1000)
            await write_batches(self._producer, self.topic, PARTITION, records(said, now_ms))

    async def note(self, said: Mapping[str, BaseModel], entry: AuditEntry) -> None:
        """Append records, and behind them who did it and why; the state has them then."""
        await self.write({**said, audit_key(entry, uuid4().hex[:8]): entry})
        await self.catch_up()
