"""The consumer of `deploy/consuming.md`: every event once, whatever it reads twice."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CommitFailedError

from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    pipeline_running,
    publish_raw,
    settled,
    simulated,
)
from tests.integration.test_dead_letters import fails, mend, own, run
from tests.page_consumer import loaded
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.records.decision import ORIGIN_HEADER, source_id
from topics.settings import BrokerSettings

__all__ = ["own"]  # the fixture
EVENTS, COPIES = 600, 200


def counted(database: sqlite3.Connection) -> int:
    with suppress(sqlite3.OperationalError):  # no table yet
        count: int = database.execute("SELECT count(*) FROM decision").fetchone()[0]
        return count
    return 0


async def consumed(
    names: dict[str, Any], broker: BrokerSettings, own: Trained, folder: Path, until: int
) -> sqlite3.Connection:
    """Run the page's program until so many events are counted, and a while longer."""
    database = sqlite3.connect(folder / "decisions.db")
    group = f"{own.pipeline.name}.consumer.ledger"
    task = asyncio.create_task(names["consume"](
        own.pipeline.name, group, database,
        bootstrap_servers=broker.broker, fetch_max_wait_ms=50, check_crcs=False,
    ))  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        while counted(database) < until and not task.done():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.wait([task], timeout=2)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return database


def events_of(own: Trained) -> list[Record]:
    """Simulated events; the last ones are copies of another pipeline's."""
    records = [
        Record(key, value, 10**12 + 6 * 10**11) for key, value in simulated(own.pipeline, EVENTS)
    ]
    return [
        record if at < EVENTS - COPIES else record._replace(
            headers=[(ORIGIN_HEADER, source_id("old.events", 1, at).encode())]
        )
        for at, record in enumerate(records)
    ]  # fmt: skip


async def test_every_event_is_counted_once_though_a_commit_fails_and_though_it_was_redriven(
    own: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    topology = Topology.of(own.pipeline)
    events = events_of(own)
    async with pipeline_running(own, broker):
        await publish_raw(broker, topology.events, 0, events)
        audit = await settled(broker, own.pipeline, EVENTS)
        dead = sum(fails(record.value or b"") for record in events)
        assert audit.total.dead == dead > 50
        mend(own)
        code, output = await run(own, broker, "redrive")
        assert (code, output["decided"]) == (0, dead)
    nothing = [Record(b"key", None, 0), Record(b"key", b"{}", 0, [("ce_type", b"another")])]
    await publish_raw(broker, topology.decisions, 0, nothing)

    names, commits = loaded(), list[int]()

    class Mortal(AIOKafkaConsumer):  # type: ignore[misc]  # it has no types
        """Its first commit, behind the transaction, is the end of the consumer."""

        async def commit(self) -> None:
            commits.append(1)
            if len(commits) == 1:
                raise CommitFailedError
            await super().commit()

    names["AIOKafkaConsumer"] = Mortal
    with pytest.raises(CommitFailedError):
        await consumed(names, broker, own, tmp_path, EVENTS + 1)
    database = await consumed(names, broker, own, tmp_path, EVENTS)
    assert len(commits) > 1
    assert counted(database) == EVENTS
    rows = database.execute(
        'SELECT topic, partition, "offset", event_id, attempt FROM decision ORDER BY "offset"'
    ).fetchall()
    copies = [at for topic, _, at, _, _ in rows if topic == "old.events"]
    assert copies == [*range(EVENTS - COPIES, EVENTS)]
    own_offsets = [at for topic, _, at, _, _ in rows if topic == topology.events]
    assert own_offsets == [*range(EVENTS - COPIES)]
    assert sum(attempt == 2 for *_, attempt in rows) == dead
    assert len({event_id for *_, event_id, _ in rows}) == EVENTS


async def test_a_record_of_a_newer_schema_ends_the_consumer_and_says_which(
    own: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    topology = Topology.of(own.pipeline)
    async with pipeline_running(own, broker):
        pass
    newer = Record(b"key", b'{"schema": 2}', 0, [("ce_type", b"anabranch.decision")])
    await publish_raw(broker, topology.decisions, 3, [newer])
    with pytest.raises(ValueError, match=r"decisions\[3\]@0: a newer schema"):
        await consumed(loaded(), broker, own, tmp_path, 1)
