"""The topic of renewals, followed and written; its ledger is never ahead of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Self

import aiokafka
from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord, TopicPartition

from agents.broker import ensure_renewals_topic, follower, offsets_consumer
from agents.control import now_ms
from agents.renewal.renewal_ledger import RenewalLedger
from topics.errors import WireError
from topics.kafka import Record, client_options, close_client, write_batches
from topics.pipeline import Topology
from topics.records import PARTITION, RenewalRecord, renewal_key, renewal_record
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

_WAIT_MS = 200
_HEADERS = [("content-type", b"application/json")]


class RenewalLog:
    """`<pipeline>.renewals`, read from its start; made if it is not there."""

    def __init__(self, settings: BrokerSettings, topology: Topology) -> None:
        self.ledger = RenewalLedger()
        self.topic = topology.renewals
        self._settings, self._topology = settings, topology
        self._on = TopicPartition(self.topic, PARTITION)
        self._open = AsyncExitStack()
        self._consumer: aiokafka.AIOKafkaConsumer
        self._offsets: aiokafka.AIOKafkaConsumer
        self._producer: AIOKafkaProducer

    async def __aenter__(self) -> Self:
        """Read all that is there. Raises BrokerError."""
        await ensure_renewals_topic(self._settings, self._topology)
        enter = self._open.enter_async_context
        self._consumer = await enter(
            follower(self._settings, [self.topic], PARTITION + 1, from_start=True, wait_ms=_WAIT_MS)
        )
        self._offsets = await enter(offsets_consumer(self._settings))
        self._producer = AIOKafkaProducer(
            **client_options(self._settings), acks="all", enable_idempotence=True
        )
        self._open.push_async_callback(close_client, self._producer)
        await self._producer.start()
        await self.catch_up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def catch_up(self) -> None:
        """Read to what is the end now."""
        end = (await self._offsets.end_offsets([self._on]))[self._on]
        while await self._consumer.position(self._on) < end:
            await self.more()

    async def more(self) -> None:
        """Take in what comes within a moment."""
        fetched = await self._consumer.getmany(self._on, timeout_ms=_WAIT_MS)
        self._take(fetched.get(self._on, []))

    def _take(self, records: Sequence[ConsumerRecord]) -> None:
        for record in records:
            try:
                if (said := renewal_record(record.key, record.value)) is not None:
                    self.ledger.take(said)
            except WireError as exc:
                log.warning(
                    "%s[%d]@%d skipped: %s", record.topic, record.partition, record.offset, exc
                )

    async def append(self, record: RenewalRecord) -> None:
        """Write *record*; returns once the ledger has it and all that stands before it."""
        # Not without its defaults, as control records are: its kind tells what it is.
        value = record.model_dump_json(exclude_none=True).encode()
        said = Record(renewal_key(record).encode(), value, now_ms(), _HEADERS)
        written = await write_batches(self._producer, self.topic, PARTITION, [said])
        while await self._consumer.position(self._on) <= written[0][0]:
            await self.more()
