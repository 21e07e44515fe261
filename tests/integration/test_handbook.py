"""The handbook's own features, value by value, from a stream of its transactions.

The stream has to begin where the data does, six weeks before the first features; what is said of
those weeks is compared with what training says. Three days of features follow, and
`ANABRANCH_HANDBOOK_UNTIL=2018-08-15` compares all of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from agents.broker.log_follower import follower
from agents.broker.pipeline_topics import ensure_topics
from agents.commands import labelled_events
from agents.process.tasks import first_of
from agents.publish import publisher as publishing
from agents.publish.outcome_publisher import OutcomePublisher
from models.features.vector import FeatureVector
from models.features.windows import over_all_rows
from models.registry.registry import Registry
from tests.integration.handbook import CALENDAR, CUSTOMER, TERMINAL, Handbook, folder
from tests.integration.harness import Trained, stopped, worker_process
from tests.integration.test_cli import anabranch
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import Topology
from topics.records.heartbeat import HEARTBEAT_HEADER as HEARTBEAT
from topics.records.stage_batch import StageBatch
from topics.records.wire import decode
from topics.settings import BrokerSettings

pytestmark = [pytest.mark.handbook, pytest.mark.timeout(1800)]

UNTIL = date.fromisoformat(os.environ.get("ANABRANCH_HANDBOOK_UNTIL", "2018-05-18"))
Doubles = NDArray[np.float64]
TOLERANCE = 1e-9
IN_FLIGHT = 8000
PATIENCE_S = 300.0
COLUMNS: Mapping[str, list[str]] = {
    "features": [*CALENDAR, *CUSTOMER],  # behind the amount
    "terminals": TERMINAL,
}


@pytest.fixture(scope="module")
def handbook() -> Handbook:
    return Handbook.until(UNTIL)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Card fraud's two feature components, without a model."""
    content = yaml.safe_load(find_pipeline("card-fraud").read_text())
    content["components"] = [c for c in content["components"] if c["name"] in COLUMNS]
    for component in content["components"]:
        component.pop("model", None)
    content["weighting"] = {
        "from": [*COLUMNS], "weights": {"features": 0.5, "terminals": 0.5},
    }  # fmt: skip
    content.pop("explain")  # weights that are fixed here have no background to explain by
    home = tmp_path_factory.mktemp("handbook")
    path = home / "card-fraud.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return Trained(home, load_pipeline(path), Registry(home / "registry"))


@pytest.fixture(scope="module")
def wanted(untrained: Trained, handbook: Handbook) -> Mapping[str, Doubles]:
    """By component, the reference's values (N, F), and training's before the reference begins."""
    pipeline, book = untrained.pipeline, handbook
    data, found = labelled_events.collected(pipeline, book.events()), {}
    for name, columns in COLUMNS.items():
        windows = over_all_rows(pipeline, name, data.columns, data.labels)
        vector = FeatureVector(pipeline.component(name).features or [])
        trained = vector.compute({**data.columns, **windows})
        reference = np.column_stack([book.features[column] for column in columns])
        if name == "features":
            reference = np.column_stack([book.amounts, reference])
        found[name] = np.where(np.isnan(reference), trained, reference)
        assert np.abs(found[name] - trained).max() <= TOLERANCE
    return found


@dataclass
class Stream:
    """Transactions on their way, and what the feature components have said of them so far."""

    pipeline: Pipeline
    handbook: Handbook
    wanted: Mapping[str, Doubles]
    published: int = 0
    said: int = 0
    """Rows that were compared, repeated ones too."""
    worst: float = 0.0
    """The largest absolute error."""
    wrong: list[str] = field(default_factory=list)
    _answered: dict[str, NDArray[np.bool_]] = field(init=False)
    _row_of: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        ids = self.handbook.ids
        self._answered = {name: np.zeros(len(ids), np.bool_) for name in COLUMNS}
        self._row_of = np.zeros(int(ids.max()) + 1, np.int64)
        self._row_of[ids] = np.arange(len(ids))

    @property
    def answered(self) -> int:
        """Transactions with the features of both components."""
        return min(int(rows.sum()) for rows in self._answered.values())

    async def publish(self, broker: BrokerSettings) -> None:
        topology, outcomes = Topology.of(self.pipeline), OutcomePublisher(self.pipeline)

        async def room() -> int:
            return IN_FLIGHT - (self.published - self.answered)

        events = outcomes.following(self.handbook.events())
        async with publishing.producer(broker) as kafka:
            async for chunk in publishing.due_chunks(events, schedule=None, room=room):
                await outcomes.publish_known(kafka)
                await publishing.publish_chunk(kafka, topology.events, topology.partitions, chunk)
                self.published += len(chunk)
        await self.has(1.0)

    async def follow(self, broker: BrokerSettings, ready: asyncio.Event) -> None:
        """Compare all that the components write, also what they write again."""
        topology = Topology.of(self.pipeline)
        topics = [topology.stage(name) for name in COLUMNS]
        async with follower(broker, topics, topology.partitions, from_start=True) as consumer:
            ready.set()
            while True:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        headers = dict(record.headers)
                        if HEARTBEAT not in headers:
                            self._compare(decode(record.value, headers))

    def _compare(self, batch: StageBatch) -> None:
        assert batch.present.all()
        rows = self._row_of[[int(item) for item in batch.rows.ids.items()]]
        self._answered[batch.component][rows] = True
        errors = np.abs(batch.output - self.wanted[batch.component][rows])
        self.said += len(rows)
        self.worst = max(self.worst, float(errors.max(initial=0)))
        for row in rows[(errors > TOLERANCE).any(axis=1)].tolist():
            self.wrong.append(f"{batch.component} of {self.handbook.ids[row]}")

    async def has(self, share: float) -> None:
        """Wait until *share* of the transactions is answered."""
        answered, since = self.answered, time.monotonic()
        while self.answered < share * len(self.handbook):
            assert time.monotonic() - since < PATIENCE_S, f"stuck after {self.answered}"
            await asyncio.sleep(0.05)
            if self.answered != answered:
                answered, since = self.answered, time.monotonic()


@asynccontextmanager
async def streaming(
    untrained: Trained,
    handbook: Handbook,
    wanted: Mapping[str, Doubles],
    broker: BrokerSettings,
) -> AsyncIterator[Stream]:
    """Publishes all transactions while the body starts and ends workers; checks every value."""
    stream, ready = Stream(untrained.pipeline, handbook, wanted), asyncio.Event()
    await ensure_topics(broker, Topology.of(untrained.pipeline))
    following = asyncio.create_task(stream.follow(broker, ready))
    await ready.wait()
    publishing = asyncio.create_task(stream.publish(broker))
    try:
        yield stream
        await first_of(lambda: following, lambda: publishing)
    finally:
        following.cancel()
        publishing.cancel()
    in_reference = int((~np.isnan(handbook.features[TERMINAL[0]])).sum())
    print(
        f"{len(handbook):,} transactions, {in_reference:,} in the reference: largest error "
        f"{stream.worst:.2g}, {stream.said - 2 * len(handbook):,} rows said again"
    )
    assert in_reference > 10_000
    assert not stream.wrong, f"{len(stream.wrong)} rows, for example {stream.wrong[:5]}"


async def test_the_stream_reproduces_the_handbook_s_features(
    untrained: Trained,
    handbook: Handbook,
    wanted: Mapping[str, Doubles],
    broker: BrokerSettings,
) -> None:
    async with streaming(untrained, handbook, wanted, broker) as stream:
        with worker_process(untrained, broker, *COLUMNS):
            await stream.has(1.0)


def test_decisions_are_ahead_of_the_handbook_s_best_models() -> None:
    done = anabranch(
        None, "evaluate", "card-fraud", "--data", str(folder()),
        "--train", "2018-07-25/7", "--delay", "7", "--test", "7", "--json", timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert (content["unaccounted"], content["duplicates"]) == (0, 0)
    assert content["auc"] > 0.871
    assert content["average_precision"] > 0.658
    assert content["card_precision_100"] > 0.291


@pytest.mark.faults
async def test_so_does_a_stream_whose_workers_are_killed(
    untrained: Trained,
    handbook: Handbook,
    wanted: Mapping[str, Doubles],
    broker: BrokerSettings,
) -> None:
    async with streaming(untrained, handbook, wanted, broker) as stream:
        for share in (0.5, 0.95):
            with worker_process(untrained, broker, *COLUMNS) as worker:
                await stream.has(share)
                await asyncio.to_thread(stopped, worker, signal.SIGKILL)
        with worker_process(untrained, broker, *COLUMNS):
            await stream.has(1.0)


@pytest.mark.faults
async def test_so_does_a_stream_that_workers_share_who_come_leave_and_are_killed(
    untrained: Trained,
    handbook: Handbook,
    wanted: Mapping[str, Doubles],
    broker: BrokerSettings,
) -> None:
    async with streaming(untrained, handbook, wanted, broker) as stream:
        with worker_process(untrained, broker, *COLUMNS) as first:
            await stream.has(0.3)
            with worker_process(untrained, broker, *COLUMNS) as second:
                await stream.has(0.6)
                await asyncio.to_thread(stopped, second, signal.SIGTERM)
            with worker_process(untrained, broker, *COLUMNS):
                await stream.has(0.95)
                await asyncio.to_thread(stopped, first, signal.SIGKILL)
                await stream.has(1.0)
