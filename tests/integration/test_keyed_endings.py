"""A row that ends the workers of a keyed stage costs that row, not its lane."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest

from agents.broker.pipeline_topics import ensure_topics
from agents.components.extract_features import PlainFeatures
from agents.recovery.keyed_poison_rows import (
    HEADER,
    AttemptLog,
    RunAttempt,
    attempt_record,
    attempts_by_worker,
)
from agents.workers.stage_pulse import WORKER_RUN
from models.component import Batch, StageOutput
from models.registry.registry import Registry
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    decisions_of,
    pipeline_running,
    publish_raw,
    records_of,
    settled,
)
from tests.integration.velocity import EVENT
from topics.kafka.batches import Record
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology, lane_of
from topics.records.wire import decode
from topics.settings import BrokerSettings

PIPELINE = f"""
pipeline: endings
{EVENT}components:
  - name: large
    import: tests.integration.velocity:LargeAmount
    options: {{limit: 500}}
    from: [events]
  - name: terminals
    kind: extract_features
    from: [events]
    key: terminal_id
    features: [{{name: paid, apply: mean, of: amount, over: [1d]}}]
  - name: judged
    import: tests.integration.velocity:Half
    from: [terminals]
weighting:
  from: [large, judged]
  weights: {{large: 0.5, judged: 0.5}}
policy: {{thresholds: {{decline: 0.5}}}}
"""
SOURCE, AT, EVENTS = 1, 20, 41
FATAL = 1e6


def event(number: int) -> Record:
    fatal = number == AT
    value = {
        "transaction_id": f"t{number}", "customer_id": "c", "amount": FATAL if fatal else 5.0,
        "terminal_id": "fatal" if fatal else f"m{number % 7}",
        "occurred_at": f"2026-01-01T00:00:{number:02d}Z",
    }  # fmt: skip
    return Record(b"c", orjson.dumps(value), int(time.time() * 1000))


async def test_a_row_at_which_three_workers_have_ended_alone_is_passed_over_in_its_lane(
    tmp_path: Path, broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "endings.yaml"
    path.write_text(PIPELINE)
    own = Trained(tmp_path, load_pipeline(path), Registry(tmp_path / "registry"))
    topology, lane = Topology.of(own.pipeline), lane_of("fatal", 4)
    seen: list[float] = []
    transform = PlainFeatures.transform

    def watched(self: PlainFeatures, batch: Batch) -> StageOutput:
        made = transform(self, batch)
        seen.extend(made.output[:, 0].tolist())
        return made

    outstanding: set[int] = set()
    most: list[int] = []
    write_attempts = AttemptLog._write

    async def noted(self: AttemptLog, lane: int, records: Sequence[Record]) -> None:
        ours = [record for record in records if (record.key or b"").endswith(WORKER_RUN.encode())]
        for each in ours:
            (outstanding.add if each.value else outstanding.discard)(lane)
        most.append(len(outstanding))
        await write_attempts(self, lane, records)

    monkeypatch.setattr(AttemptLog, "_write", noted)
    monkeypatch.setattr(PlainFeatures, "transform", watched)
    await ensure_topics(broker, topology)
    tried = RunAttempt(rows={SOURCE: (AT, AT)}, behind=1)
    ended = [attempt_record(tried, 0, worker) for worker in ("w1", "w2", "w3")]
    await publish_raw(broker, topology.state("terminals"), lane, ended)
    await publish_raw(broker, topology.events, SOURCE, [event(n) for n in range(EVENTS)])
    async with pipeline_running(own, broker):
        assert (await settled(broker, own.pipeline, EVENTS)).total.decided == EVENTS
        deadline = time.monotonic() + PATIENCE_S
        while True:
            records = [each for each in await records_of(broker, topology.state("terminals"))
                       if HEADER in dict(each.headers)]  # fmt: skip
            said = [
                RunAttempt.model_validate_json(record.value) for record in records if record.value
            ]
            if not attempts_by_worker(record for record in records if record.partition == lane):
                break
            assert time.monotonic() < deadline, "what others said is never taken back"
            await asyncio.sleep(0.1)
    assert max(most) == 1, "a lane's rows might be taken for those that end the worker"
    assert len(seen) == EVENTS - 1
    assert max(seen) < FATAL, "it was run on"
    assert said.count(tried) > len(ended), "it is said of the row that is passed over, too"
    missing = {d["event_id"]: d["missing"] for d in await decisions_of(broker, own.pipeline)}
    assert {each for each, names in missing.items() if names} == {f"t{AT}"}
    batches = [decode(each.value, dict(each.headers))
               for each in await records_of(broker, topology.stage("terminals"))
               if "anabranch-heartbeat" not in dict(each.headers)]  # fmt: skip
    failures = [(int(each.rows.offsets[failure.row]), failure.error, failure.reason)
                for each in batches for failure in each.failures]  # fmt: skip
    assert failures == [(AT, "WorkerEnded", "3 workers ended while they ran on this row alone")]
    rows = np.concatenate([each.rows.offsets for each in batches])
    assert sorted(rows.tolist()) == list(range(EVENTS))
