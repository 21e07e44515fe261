"""A worker is alive as long as it gets on, however long one fetch takes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from agents.join.partition_join import PartitionJoin
from agents.join.stage_rows import JoinedRows
from agents.stages.join_worker import JoinWorker
from agents.workers.signs_of_life import SignsOfLife
from agents.workers.wiring import Wiring
from tests.unit.stage_batches import batch_of
from tests.unit.test_unheard_stages import Batches
from tests.unit.topic_log import record
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.records.wire import encode
from topics.settings import BrokerSettings
from topics.transport.fetch import Fetch

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
STALL_S = PIPELINE.weighting.stall_timeout_s
TOPIC = "card-fraud.features"


class Busy(Batches):
    """A consumer whose fetch is being dealt with."""

    def busy_s(self) -> float:
        return 1.0


class Slow(JoinWorker):
    """Takes most of the time for which it may be silent for each partition."""

    now = 0.0
    signs: SignsOfLife

    async def open_state(self, partition: int) -> PartitionJoin:
        return self.new_join(partition, -1)

    async def emit(self, _partition: int, _joined: JoinedRows) -> None:
        self.now += 0.7 * STALL_S
        assert not self.signs._hangs()


async def test_a_fetch_of_many_partitions_may_take_longer_than_a_worker_may_be_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics: Any = SimpleNamespace(
        observe_batch=lambda *_: None, observe_late_answers=lambda _: None
    )
    app: Any = SimpleNamespace(batches=Busy())
    wiring = Wiring(PIPELINE, app, BrokerSettings(broker="127.0.0.1:1"), metrics)
    worker = Slow(wiring, ["features"], [TOPIC])
    clock = SimpleNamespace(monotonic=lambda: worker.now)
    monkeypatch.setattr("agents.workers.signs_of_life.time", clock)
    worker.signs = SignsOfLife(worker)
    records = {}
    for partition in range(4):
        batch = replace(batch_of("features", [0]), partition=partition)
        value, headers = encode(batch, "binary")
        records[TP(TOPIC, partition)] = [record(TOPIC, 0, value, headers=headers)]
    await worker.process(Fetch(records, 0))
    worker.now += 0.9 * STALL_S
    assert not worker.signs._hangs()
    worker.now += 1.1 * STALL_S
    assert worker.signs._hangs(), "nothing is dealt with any more"
