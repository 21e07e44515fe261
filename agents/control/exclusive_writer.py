"""Changing what is in service, one operator at a time.

Kafka has no compare-and-set. Comparing after the write would not do: of two records with one key
the topic's compaction keeps the second, which is the one that has to lose. So whoever writes is
the only one who can, from before it looks at the newest state until its records are there:

- On a cluster by a transaction. Each writer has the transactional id `<pipeline>.control`, and a
  new one shuts out those before it: their transactions end without a record. It also waits for
  what they have committed, so what it reads next is the newest state.
- The embedded broker shuts nobody out. All who use it are on its machine, where a lock is held.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    ProducerFenced,
    TransactionalIdAuthorizationFailed,
)

from topics.errors import AnabranchError, BrokerError, NotAuthorized, WriteTimeout
from topics.kafka import Record, client_options, close_client, write_batches
from topics.records import PARTITION
from topics.settings import BrokerSettings, HomeSettings

_WITHIN_S = 20.0
"""For so long a writer waits for the transactions' coordinator, or for the lock."""
_ABORTED_AFTER_MS = 10_000
"""A writer that dies in between holds up whoever reads the topic for so long."""
_LOCK_FILE = "control.lock"
_SAYS_WHY = (ProducerFenced, InvalidProducerEpoch, TransactionalIdAuthorizationFailed)

Write = Callable[[Sequence[Record]], Awaitable[None]]


class WriterFenced(AnabranchError):
    """Another writer has come in between: nothing is written."""


class CommitUnknown(BrokerError):
    """The broker's answer to a commit does not say whether the records are there.

    Who opens the next writer of the topic, and reads what is there then, knows.
    """

    def __init__(self, topic: str, cause: KafkaError) -> None:
        super().__init__(
            f"{topic}: the broker has not said whether the change is written ({cause!r}): look at "
            "`anabranch models log PIPELINE`, and say it again if it is not there"
        )


class NoTransactions(BrokerError):
    """The broker begins no transaction."""

    def __init__(self, address: str, waited_s: float) -> None:
        super().__init__(
            f"{address} has begun no transaction within {waited_s:.0f} s, and without one two "
            "operators could overwrite each other: nothing is changed. On a single broker, "
            "transaction.state.log.replication.factor must be 1"
        )


@asynccontextmanager
async def exclusive_writer(settings: BrokerSettings, topic: str) -> AsyncIterator[Write]:
    """Shut out every other writer of a control topic; yields what appends records, all or none.

    Raises WriterFenced where another has shut this one out; CommitUnknown, NoTransactions,
    NotAuthorized.
    """
    if settings.embedded:
        async with _locked(HomeSettings().home / _LOCK_FILE):
            producer = AIOKafkaProducer(
                **client_options(settings), acks="all", enable_idempotence=True
            )
            await producer.start()
            try:
                yield lambda records: _append(producer, topic, records)
            finally:
                await close_client(producer)
        return
    producer = AIOKafkaProducer(
        **client_options(settings), transactional_id=topic,
        transaction_timeout_ms=_ABORTED_AFTER_MS, acks="all",
    )  # fmt: skip
    try:
        await _begin(producer, settings)
        yield lambda records: _commit(producer, topic, records)
    except (ProducerFenced, InvalidProducerEpoch) as exc:
        raise WriterFenced(topic) from exc
    except TransactionalIdAuthorizationFailed as exc:
        raise NotAuthorized(f"transactional id {topic}", "to be used by us") from exc
    finally:
        await close_client(producer)


async def _begin(producer: AIOKafkaProducer, settings: BrokerSettings) -> None:
    try:
        async with asyncio.timeout(_WITHIN_S):
            await producer.start()
    except TimeoutError as exc:
        raise NoTransactions(settings.broker, _WITHIN_S) from exc


async def _append(producer: AIOKafkaProducer, topic: str, records: Sequence[Record]) -> None:
    await write_batches(producer, topic, PARTITION, records)


async def _commit(producer: AIOKafkaProducer, topic: str, records: Sequence[Record]) -> None:
    is_sent = False
    try:
        async with asyncio.timeout(_WITHIN_S), producer.transaction():
            await write_batches(producer, topic, PARTITION, records)
            is_sent = True
    except KafkaError as exc:
        if not is_sent or isinstance(exc, _SAYS_WHY):
            raise
        raise CommitUnknown(topic, exc) from exc
    except TimeoutError as exc:
        raise WriteTimeout(topic, PARTITION, _WITHIN_S) from exc


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold the lock of that file, which the system lets go when the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _WITHIN_S
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise WriterFenced(str(path)) from None
                await asyncio.sleep(0.05)
        yield
    finally:
        os.close(handle)
