"""Reading and writing the control topic, and the reports topic beside it."""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import socket
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Self
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition
from pydantic import BaseModel

from agents.broker import end_offsets, follower, topic_names
from agents.control.errors import ChangedMeanwhile
from agents.control.exclusive_writer import CommitUnknown, WriterFenced, exclusive_writer
from topics.errors import AnabranchError, TopicMissing, WireError
from topics.kafka import client_options, close_client, write_batches
from topics.pipeline import Topology
from topics.records import (
    PARTITION,
    AuditEntry,
    ControlState,
    ReportState,
    audit_key,
    is_report,
    keyed_records,
)
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

_WAIT_MS = 200
_LOOK_AGAIN_S = 30.0
"""A topic that was not there may have been made since."""
_TRIES = 5
"""Another operator who changes something else shuts us out for a moment."""
_TIDY_S = 3.0
"""For so long nobody waits for old reports to be deleted."""
WORKER = f"{socket.gethostname()}-{os.getpid()}".replace("/", "-")
"""How this process is called on the topics."""


def now() -> str:
    """The time, as records of the topics have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def now_ms() -> int:
    """The time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def user() -> str:
    """Who we are; a container may run under a number without a name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


class ControlTopic:
    """What is in service in one pipeline, what its workers say, and whatever comes.

    An older installation has no reports topic; then nothing is read of it, and writing fails.
    """

    def __init__(self, settings: BrokerSettings, topology: Topology) -> None:
        self.state = ControlState()
        self.reports = ReportState()
        self.topic = topology.control
        self.reports_topic = topology.reports
        self._topology = topology
        self._settings = settings
        self._on = TopicPartition(self.topic, PARTITION)
        self._reports_on = TopicPartition(self.reports_topic, PARTITION)
        self._read: list[TopicPartition] = []
        """What `more` reads."""
        self._has_reports = False
        """There is a reports topic."""
        self._looked_for_at = 0.0
        self._own_keys: set[str] = set()
        """Keys of what this process has said of itself."""
        self._open = AsyncExitStack()
        self._producer: AIOKafkaProducer | None = None
        self._writing = asyncio.Lock()
        self._offsets: dict[str, int] = {}
        """Where the newest record of each key of the control topic is."""

    async def __aenter__(self) -> Self:
        """Read all that is there. Raises TopicMissing when there is no control topic."""
        existing = await topic_names(self._settings, [self.topic, self.reports_topic])
        if self.topic not in existing:
            raise TopicMissing(self.topic)
        self._has_reports = self.reports_topic in existing
        self._looked_for_at = time.monotonic()
        self._read = [self._on, *([self._reports_on] if self._has_reports else [])]
        self._consumer = await self._open.enter_async_context(
            follower(
                self._settings, [tp.topic for tp in self._read], PARTITION + 1, from_start=True,
                wait_ms=_WAIT_MS,
            )
        )  # fmt: skip
        await self.catch_up()
        if self._has_reports:  # workers need no more of it, and it is written all the time
            self._consumer.pause(self._reports_on)
            self._read = [self._on]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    def listen(self) -> None:
        """From now on `more` and `catch_up` also read what workers say."""
        if self._has_reports and self._reports_on not in self._read:
            self._consumer.resume(self._reports_on)
            self._read = [self._on, self._reports_on]

    async def check_topic(self, topic: str) -> None:
        """Raise TopicMissing unless *topic* is there: a client would wait for it."""
        if topic not in await topic_names(self._settings, [topic]):
            raise TopicMissing(topic)

    async def has_reports(self) -> bool:
        """Whether there is a reports topic; looked for again every 30 s while there is none."""
        if not self._has_reports and time.monotonic() - self._looked_for_at > _LOOK_AGAIN_S:
            self._looked_for_at = time.monotonic()
            self._has_reports = bool(await topic_names(self._settings, [self.reports_topic]))
        return self._has_reports

    async def state_at_start(self) -> ControlState:
        """The state without challengers that have no topic: hot swaps refuse those."""
        topics = {
            name: self._topology.shadow(name)
            for name, deployment in self.state.deployments.items()
            if deployment.challenger is not None
        }
        existing = await topic_names(self._settings, topics.values()) if topics else set()
        without = {
            name: self.state.deployments[name].model_copy(update={"challenger": None})
            for name, topic in topics.items()
            if topic not in existing
        }
        return replace(self.state, deployments={**self.state.deployments, **without})

    async def catch_up(self) -> None:
        """Read to what is the end now."""
        for tp, end in (await end_offsets(self._settings, self._read)).items():
            while await self._consumer.position(tp) < end:
                await self.more()

    async def more(self) -> bool:
        """Take in what comes within a moment; whether anything did."""
        fetched = await self._consumer.getmany(*self._read, timeout_ms=_WAIT_MS)
        for tp in self._read:
            for record in fetched.get(tp, []):
                self._apply(record)
        return bool(fetched)

    def _apply(self, record: ConsumerRecord) -> None:
        try:
            if record.topic == self.reports_topic or is_report(record.key):
                self.reports.apply(record.topic, record.key, record.value, record.timestamp)
            else:
                self.state.apply(record.key, record.value)
                self._offsets[record.key.decode()] = record.offset
        except WireError as exc:
            log.warning("%s[%d]@%d skipped: %s", record.topic, record.partition, record.offset, exc)

    async def write(self, entries: Mapping[str, BaseModel | None]) -> None:
        """Append control records by key, in order; returns when all in-sync replicas have them."""
        await self._write(self.topic, entries)

    async def report(self, entries: Mapping[str, BaseModel | None]) -> None:
        """Append reports by key, None for a tombstone. Raises TopicMissing."""
        if not await self.has_reports():
            raise TopicMissing(self.reports_topic)
        self._own_keys |= {key for key in entries if key.endswith(f"/{WORKER}")}
        await self._write(self.reports_topic, entries)

    async def retract(self) -> None:
        """Delete what this process has said of itself; what versions have done stays."""
        if self._own_keys:
            await self._write(self.reports_topic, dict.fromkeys(sorted(self._own_keys)))
            self._own_keys.clear()

    async def _write(self, topic: str, entries: Mapping[str, BaseModel | None]) -> None:
        async with self._writing:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **client_options(self._settings), acks="all", enable_idempotence=True,
                    compression_type="gzip",  # a worker of 10,000 partitions says a lot
                )  # fmt: skip
                self._open.push_async_callback(close_client, producer)
                await producer.start()
                self._producer = producer
            await write_batches(self._producer, topic, PARTITION, keyed_records(entries, now_ms()))

    async def change(self, entries: Mapping[str, BaseModel], entry: AuditEntry) -> None:
        """Append records, and behind them who did it and why; the state has them then.

        What has been read so far is what the change was decided on. Raises ChangedMeanwhile, and
        writes nothing, where a record with one of these keys has come since; CommitUnknown where
        the broker says time and again neither that it is written nor that it is not.
        """
        seen = {key: self._offsets.get(key) for key in entries}
        ours = audit_key(entry, uuid4().hex[:8])
        new: dict[str, BaseModel | None] = {**entries, ours: entry}
        unknown: CommitUnknown | None = None
        for _ in range(_TRIES):
            try:
                async with exclusive_writer(self._settings, self.topic) as write:
                    await self.catch_up()
                    if ours in self.state.trail:  # written before, though the answer was lost
                        return
                    if any(self._offsets.get(key) != offset for key, offset in seen.items()):
                        raise ChangedMeanwhile(entry.what, self.state.last_change(entry.what))
                    old = dict.fromkeys(self.state.old_audit())
                    await write(keyed_records({**new, **old}, now_ms()))
            except WriterFenced:
                continue
            except CommitUnknown as exc:
                unknown = exc
                continue
            await self.catch_up()
            return
        raise unknown or ChangedMeanwhile(entry.what, None)

    async def tidy(self) -> None:
        """Forget processes that are long gone, and delete what they have said, if we may.

        How long is counted to the newest report: were our clock ahead, all would seem to be gone.
        """
        at_ms = min(now_ms(), self.reports.newest_ms)
        for topic, keys in self.reports.forget(at_ms).items():
            try:
                async with asyncio.timeout(_TIDY_S):
                    await self._write(topic, dict.fromkeys(keys))
            except (AnabranchError, KafkaError, TimeoutError) as exc:
                log.info("%s: old reports are left: %s", topic, exc)
