"""A silence is a stage's only where its topic could be read to its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from faust.types import TP

from agents.join import Moment, PartitionJoin
from agents.join.stage_rows import JoinedRows
from agents.stages.join_worker import JoinWorker
from agents.workers.wiring import Wiring
from tests.unit.stage_batches import batch_of
from tests.unit.topic_log import record
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.records.wire import encode
from topics.settings import BrokerSettings
from topics.transport.fetch import Fetch
from topics.transport.fetch_reader import FetchReader, aiokafka_tp

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
STALL_S = PIPELINE.weighting.stall_timeout_s
FOREST = TP("card-fraud.risk-forest", 0)
FEATURES = TP("card-fraud.features", 0)


@dataclass
class Batches:
    """What a consumer tells a worker."""

    unheard: set[TP] = field(default_factory=set)
    excused: set[TP] = field(default_factory=set)
    silent_s: float = 0.0

    def hears(self, tp: TP) -> bool:
        return tp not in self.unheard

    def has_unread(self, tp: TP) -> bool:
        return not self.hears(tp)

    def assignment(self) -> set[TP]:
        return set()

    def pause_only(self, _: set[TP]) -> None: ...

    def done(self, _: object) -> None: ...


class Closing(JoinWorker):
    """Ends rows for which one stage has answered and the others are down."""

    now = 0.0
    left: list[int]
    """Source offsets of rows that have ended."""

    async def open_state(self, partition: int) -> PartitionJoin:
        return self.new_join(partition, -1)

    def closed(self, join: PartitionJoin, at: Moment) -> JoinedRows | None:
        return join.close(at, lambda present: np.asarray(present.any(axis=1)))

    async def emit(self, _: int, joined: JoinedRows) -> None:
        self.left.extend(joined.rows.offsets.tolist())


@pytest.fixture
async def worker() -> Closing:
    metrics = SimpleNamespace(observe_batch=lambda *_: None, observe_late_answers=lambda _: None)
    app: Any = SimpleNamespace(batches=Batches())
    settings = BrokerSettings(broker="127.0.0.1:1")
    wiring = Wiring(PIPELINE, app, settings, metrics)  # type: ignore[arg-type]  # no metrics
    worker = Closing(wiring, ["features", "risk-forest"], [FEATURES.topic, FOREST.topic])
    worker.left = []
    worker.clock = SimpleNamespace(now=lambda: worker.now)  # type: ignore[assignment]  # a clock
    return worker


async def features(worker: Closing, offset: int) -> None:
    value, headers = encode(batch_of("features", [offset]), "binary")
    records = [record(FEATURES.topic, offset, value, headers=headers)]
    await worker.process(Fetch({FEATURES: records}, 0))


async def nothing(worker: Closing, seconds: float) -> None:
    worker.now += seconds
    await worker.process(Fetch({}, 0))


async def test_a_stage_whose_topics_leader_cannot_be_reached_is_not_down(worker: Closing) -> None:
    await features(worker, 0)
    worker.wiring.app.batches.unheard.add(FOREST)  # type: ignore[attr-defined]  # of `Batches`
    for _ in range(4):
        await nothing(worker, STALL_S)
    assert worker.left == []
    assert not worker.health(0).waiting_for["risk-forest"].down
    worker.wiring.app.batches.unheard.clear()  # type: ignore[attr-defined]  # of `Batches`
    await nothing(worker, STALL_S - 1)
    assert worker.left == [], "it may have been out of the stage's reach, too"
    await nothing(worker, 2)
    assert worker.left == [0]


async def test_a_stage_of_which_nothing_comes_though_its_topic_is_read_is_down(
    worker: Closing,
) -> None:
    await features(worker, 0)
    await nothing(worker, STALL_S + 1)
    assert worker.left == [0]


class Reader:
    """What a `FetchReader` says of the state of a partition."""

    hears = FetchReader.hears
    has_unread = FetchReader.has_unread

    def __init__(self, state: object, *, assigned: bool = True) -> None:
        tps = {aiokafka_tp(FOREST)} if assigned else set()
        assignment = SimpleNamespace(tps=tps, state_value=lambda _: state)
        subscription = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
        self.kafka = SimpleNamespace(_subscription=subscription)


def state(*, position: int = 5, answered_s_ago: float = 0.1, highwater: int | None = 5) -> object:
    return SimpleNamespace(
        has_valid_position=True, position=position, highwater=highwater, lso=highwater,
        timestamp=int((time.time() - answered_s_ago) * 1000),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("told", "assigned", "hears", "has_unread"),
    [
        ({}, True, True, False),
        ({"position": 4}, True, True, True),
        ({"answered_s_ago": 10}, True, False, True),
        ({"answered_s_ago": -10}, True, False, True),
        ({"highwater": None}, True, False, True),
        ({}, False, False, True),
    ],
)
def test_a_partition_is_read_to_its_end_only_where_a_fetch_was_answered_lately(
    told: dict[str, Any], assigned: bool, hears: bool, has_unread: bool
) -> None:
    reader = Reader(state(**told), assigned=assigned)
    assert reader.hears(FOREST) == hears  # type: ignore[misc]  # it has what that needs
    assert reader.has_unread(FOREST) == has_unread  # type: ignore[misc]  # the same
