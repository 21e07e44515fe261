"""A keyed stage through crashes, rebalances, rewinds and snapshots: each row once, as it should be.

Whole logs of a key's partitions are read in random portions. The worker ends at any write, and at
rows that end it whenever they are run on; what is committed, and what a snapshot holds, is as it
happens. What stands on the component's topic in the end must be what one pass over all events in
the order of event time makes of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.components.active_component import ActiveComponent
from agents.components.catalogue import OpenComponent
from agents.stages import keyed_stage
from agents.stages.keyed_stage import KeyedStage
from agents.windows.entity_past import orders_of
from agents.workers.stage_pulse import WORKER_RUN
from agents.workers.wiring import Wiring
from models.component import Batch, Component, StageOutput
from models.features.windows import WindowPlan, Windows
from tests.unit.topic_log import record
from topics.kafka.batches import Record
from topics.pipeline.file import load_pipeline
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import Topology, lane_of
from topics.records.bytes_column import BytesColumn
from topics.records.heartbeat import heartbeat_of
from topics.records.stage_batch import ModelRef, Rows, StageBatch
from topics.records.wire import decode, encode
from topics.settings import BrokerSettings
from topics.transport.fetch import Fetch

PARTITIONS = 2
NAME = "terminals"
START_MS = 1_767_225_600_000
FILE = """
pipeline: sim
partitions: 2
event:
  id: id
  key: customer
  time: at
  fields:
    id: {type: string}
    at: {type: timestamp}
    customer: {type: string}
    terminal: {type: string}
    amount: {type: number}
outcomes: {delay: 1s}
components:
  - name: terminals
    kind: extract_features
    from: [events]
    key: terminal
    features:
      - {name: paid, apply: sum, of: amount, over: [1h]}
      - {name: seen, apply: count, over: [1h]}
      - {name: bad, apply: share, of: outcomes, over: [1h]}
  - name: judged
    import: tests.integration.velocity:Half
    from: [terminals]
weighting: {from: [judged], weights: {judged: 1.0}}
policy: {thresholds: {decline: 0.5}}
"""
FATAL = -1.0
"""Of an event at which every worker ends that runs on it."""


class Crash(BaseException):
    """The worker's process ends here."""


class Columns(Component):
    def transform(self, batch: Batch) -> StageOutput:
        columns = list(batch.columns.values())
        if (columns[0] < 0).any():
            raise Crash
        return StageOutput(np.stack(columns, axis=1), np.zeros(batch.rows, np.float32))


@dataclass
class Broker:
    """Topics in memory."""

    topology: Topology
    logs: dict[TP, list[ConsumerRecord]] = field(default_factory=dict)
    ends_of: dict[tuple[str, int], int] = field(default_factory=dict)
    records_read = 0

    def of(self, topic: str, partition: int) -> list[ConsumerRecord]:
        return self.logs.setdefault(TP(topic, partition), [])

    def append(self, topic: str, partition: int, records: Iterable[Record]) -> None:
        log = self.of(topic, partition)
        for each in records:
            log.append(record(topic, len(log), each.value, key=each.key, headers=each.headers,
                              published_ms=each.timestamp_ms, partition=partition))  # fmt: skip

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        return 0, len(self.of(topic, partition))

    async def between(self, topic: str, partition: int, start: int, end: int) -> Any:
        return self.of(topic, partition)[start:end]

    async def between_chunks(
        self, topic: str, partition: int, start: int, end: int
    ) -> AsyncGenerator[Any]:
        yield self.of(topic, partition)[start:end]

    async def backwards(self, topic: str, partition: int) -> AsyncGenerator[tuple[int, int]]:
        end, step = len(self.of(topic, partition)), 8
        while end > 0:
            start = max(0, end - step)
            yield start, end
            end, step = start, step * 4

    async def ends(self, topics: Iterable[str], partitions: int) -> dict[tuple[str, int], int]:
        await asyncio.sleep(0)
        return {(t, p): self.ends_of.get((t, p), 0) for t in topics for p in range(partitions)}

    async def a_record(self, _topic: str, _partition: int, start: int, _end: int) -> int | None:
        return start


@dataclass
class Group:
    """What a consumer and a producer do for a worker, which may end at any write."""

    broker: Broker
    random: Random
    sources: Sequence[str]
    committed_to: dict[TP, int] = field(default_factory=dict)
    done_to: dict[TP, int] = field(default_factory=dict)
    positions: dict[TP, int] = field(default_factory=dict)
    owned: set[TP] = field(default_factory=set)
    worker: int = 0
    crashes: float = 0.0
    silent_s = 0.0
    wants_ticks = False

    def assignment(self) -> set[TP]:
        return set(self.owned)

    def committed(self, tp: TP) -> int:
        return self.committed_to.get(tp, 0)

    def done(self, positions: Mapping[TP, int]) -> None:
        self.done_to.update(positions)

    def rewind(self, tp: TP, offset: int) -> None:
        self.done_to.pop(tp, None)
        self.positions[tp] = offset

    def pause_only(self, partitions: set[TP], reader: str = "") -> None: ...

    def busy_s(self) -> float:
        return 0.0

    async def write(self, topic: str, partition: int, records: Iterable[Record]) -> None:
        await asyncio.sleep(0)
        records = [*records]
        if ends := self.random.random() < self.crashes:
            records = records[: self.random.randint(0, len(records))]
        own = f"tried/{WORKER_RUN}".encode()
        records = [each._replace(key=b"tried/w%d" % self.worker) if each.key == own else each
                   for each in records]  # fmt: skip
        self.broker.append(topic, partition, records)
        if ends:
            raise Crash


class Said(NamedTuple):
    present: bool
    output: list[float]
    error: str


Answers = dict[tuple[int, int], dict[int, Said]]
"""By lane and source, each row's."""


@dataclass
class Events:
    """All events of a source partition, and all outcomes."""

    times: list[int]
    entities: list[str]
    values: list[float]
    valid: list[bool]
    published: list[int]


def batch(topic: str, source: int, of: Events, rows: Sequence[int], start: int, stop: int) -> Any:
    at = np.array(rows, np.int64)
    present = np.array([of.valid[row] for row in rows], np.bool_)
    return StageBatch(
        component=NAME, topic=topic, partition=source, covers_from=start, covers_to=stop - 1,
        rows=Rows(
            offsets=at,
            published_ms=np.array([of.published[row] for row in rows], np.int64),
            event_time_ms=np.array([of.times[row] for row in rows], np.int64),
            backlog=np.zeros(len(rows), np.bool_),
            ids=BytesColumn.of([b"e"] * len(rows)), keys=BytesColumn.of([b"k"] * len(rows)),
        ),
        present=present, output=np.array([[of.values[row]] for row in rows]).reshape(-1, 1),
        signal=np.zeros(len(rows), np.float32), model=ModelRef("repartition", "", "code"),
        entities=BytesColumn.of([of.entities[row].encode() for row in rows]),
    )  # fmt: skip


class Simulation:
    def __init__(self, random: Random, pipeline: Pipeline, *, crashes: float, fatal: bool) -> None:
        self.random = random
        self.pipeline, self.topology = pipeline, Topology.of(pipeline)
        self.broker = Broker(self.topology)
        self.group = Group(self.broker, random, [self.topology.keyed(NAME)], crashes=crashes)
        self.events = [self.some_events(random, source) for source in range(PARTITIONS)]
        self.outcomes = [self.some_events(random, source) for source in range(PARTITIONS)]
        for outcome in self.outcomes:
            outcome.times.sort()
            outcome.published = [time + 10 for time in outcome.times]
            outcome.values = [float(value > 5) for value in outcome.values]
        self.by_chance = crashes > 0
        self.fatal: tuple[int, int] | None = None
        if fatal:
            source = random.randrange(PARTITIONS)
            row = random.randrange(len(self.events[source].valid))
            self.events[source].valid[row] = True
            self.events[source].values[row] = FATAL * 1e9
            self.events[source].entities[row] = "fatal"
            self.fatal = (source, row)
        for topic, all_of in ((self.topology.events, self.events),
                              (self.topology.outcomes, self.outcomes)):  # fmt: skip
            for source, of in enumerate(all_of):
                self.broker.ends_of[topic, source] = len(of.times)
        for lane in range(PARTITIONS):
            self.write_keyed(lane)
        app: Any = SimpleNamespace(
            batches=self.group,
            writer=self.group,
            consumer_generation_id=0,
            conf=SimpleNamespace(id="sim"),
        )
        metrics: Any = SimpleNamespace()
        for name in ("batch", "early", "past", "skipped", "rows", "inference", "late_answers"):
            setattr(metrics, f"observe_{name}", lambda *_: None)
        self.app = app
        self.wiring = Wiring(pipeline, app, BrokerSettings(broker="127.0.0.1:1"), metrics)
        self.available = dict.fromkeys(range(PARTITIONS), 0)
        self.snapshots = random.choice([0.02, 0.05, 0.3, 1.0])
        self.commits = random.choice([0.05, 0.3, 1.0])
        self.at_once = random.choice([2, 4, 10])

    @staticmethod
    def some_events(random: Random, source: int) -> Events:
        n = random.randint(1, 40)
        step = random.choice([3, 1000, 20_000])
        clock, times = START_MS, []
        early = random.choice([10, -3000])
        for _ in range(n):
            clock += random.randint(0, step) * 7
            late = random.choice([0, 0, 0, random.randint(0, 5000)])
            times.append((clock - late) // 2 * 2 + source)
        return Events(
            times,
            [f"t{random.randint(0, 5)}" for _ in range(n)],
            [float(random.randint(0, 9)) for _ in range(n)],
            [random.random() < 0.9 for _ in range(n)],
            [time + random.choice([10, 10, early]) for time in times],
        )

    def lane_of(self, of: Events, source: int, row: int) -> int:
        return lane_of(of.entities[row], PARTITIONS) if of.valid[row] else source % PARTITIONS

    def write_keyed(self, lane: int) -> None:
        """What comes of each source, one far ahead of the other at times, some of it twice."""
        random, queues = self.random, []
        for topic, all_of in ((self.topology.events, self.events),
                              (self.topology.outcomes, self.outcomes)):  # fmt: skip
            for source, of in enumerate(all_of):
                queue, start, n = [], 0, len(of.times)
                while start < n:
                    stop = min(n, start + random.randint(1, 6))
                    rows = [r for r in range(start, stop) if self.lane_of(of, source, r) == lane]
                    queue.append(batch(topic, source, of, rows, start, stop))
                    if random.random() < 0.1:  # the repartitioning started anew
                        stop = random.randint(0, stop)
                    start = stop
                queues.append(queue)
        weights = [random.random() ** 3 + 0.01 for _ in queues]
        records = []
        while any(queues):
            (at,) = random.choices(range(len(queues)), weights)
            if queues[at]:
                value, headers = encode(queues[at].pop(0), "binary")
                records.append(Record(None, value, 0, headers))
        self.broker.append(self.topology.keyed(NAME), lane, records)

    # -- one run

    def new_worker(self) -> KeyedStage:
        self.group.worker += 1
        component = OpenComponent(Columns(), ModelRef("terminals", "", "code"))
        stage = KeyedStage(self.wiring, NAME, ActiveComponent(component))
        stage.redrive = None
        stage.tail = stage._ends._tail = self.broker  # type: ignore[assignment]
        stage.clock = SimpleNamespace(now=lambda: 0.0)  # type: ignore[assignment]
        stage._ends._clock = stage.clock
        first = set[int]()

        def is_due(past: Any) -> bool:
            is_first = id(past) not in first
            if past.changed and ((is_first and self.fatal) or self.chance(self.snapshots)):
                first.add(id(past))
                return True
            return False

        stage._snapshots.is_due = is_due  # type: ignore[method-assign]
        self.rebalance()
        return stage

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def rebalance(self) -> None:
        keyed = self.topology.keyed(NAME)
        self.app.consumer_generation_id += 1
        lanes = [lane for lane in range(PARTITIONS) if self.chance(0.8)]
        self.group.owned = {TP(keyed, lane) for lane in lanes}
        self.group.done_to.clear()
        self.group.positions = {tp: self.group.committed(tp) for tp in self.group.owned}

    def commit(self) -> None:
        self.group.committed_to.update(self.group.done_to)

    def fetch(self) -> Fetch:
        found = {}
        for tp in self.group.owned:
            log = self.broker.of(*tp)
            self.available[tp.partition] += self.random.randint(0, self.at_once)
            start = self.group.positions[tp]
            stop = min(
                self.available[tp.partition], len(log), start + self.random.randint(0, self.at_once)
            )
            if start < stop:
                found[tp] = log[start:stop]
                self.group.positions[tp] = stop
        return Fetch(found, self.app.consumer_generation_id)

    async def run(self, steps: int) -> None:
        stage, quiet = self.new_worker(), 0
        for step in range(steps):
            if step == steps // 2:
                self.group.crashes = 0.0
            fetch = self.fetch()
            quiet = 0 if fetch.records else quiet + 1
            try:
                await self.handle(stage, fetch)
            except Crash:
                stage = self.new_worker()
                continue
            if self.chance(self.commits):
                self.commit()
            if quiet > 5 and self.is_over():
                return
            if quiet > 5 or self.chance(0.03):
                if self.chance(0.9):
                    self.commit()
                self.rebalance()
        raise AssertionError("it does not come to an end")

    async def handle(self, stage: KeyedStage, fetch: Fetch) -> None:
        """Deal with a fetch, at times while signs of life are given; Crash when it ends."""
        if self.chance(0.5):
            stage._ends.ask_at = float("-inf")
        beat = asyncio.ensure_future(self.beat(stage)) if self.chance(0.3) else None
        try:
            await stage.handle(fetch)
        finally:
            if beat is not None:
                await beat

    async def beat(self, stage: KeyedStage) -> None:
        await asyncio.sleep(0)
        if stage.is_current:
            with suppress(Crash):  # the worker ends at the next write
                await stage.give_signs(0.0)

    def is_over(self) -> bool:
        answered = self.answers()
        return all(len(rows) == len(self.expected_rows(*whose)) for whose, rows in answered.items())

    def expected_rows(self, lane: int, source: int) -> list[int]:
        of = self.events[source]
        return [row for row in range(len(of.times)) if self.lane_of(of, source, row) == lane]

    # -- what is right

    def expected(self, lane: int) -> dict[tuple[int, int], list[float]]:
        plan = WindowPlan(self.pipeline, NAME)
        windows = Windows(plan)
        for source, of in enumerate(self.outcomes):
            rows = [
                r
                for r in range(len(of.times))
                if of.valid[r] and self.lane_of(of, source, r) == lane
            ]
            windows.learn(
                [of.entities[r] for r in rows],
                np.array([of.times[r] for r in rows], np.int64),
                orders_of(source, np.array(rows, np.int64)),
                np.array([of.values[r] > 0 for r in rows], np.bool_),
            )
        turn = []
        for source, of in enumerate(self.events):
            clock = -(2**60)
            for row in range(len(of.times)):
                if of.valid[row] and self.lane_of(of, source, row) == lane:
                    clock = max(clock, min(of.times[row], of.published[row]))
                    turn.append((clock, source, row))
        found = {}
        for _, source, row in sorted(turn):
            of = self.events[source]
            features = windows.observe(
                [of.entities[row]],
                np.array([of.times[row]]),
                orders_of(source, np.array([row])),
                np.array([[of.values[row]]]),
            )
            found[source, row] = self.sure(
                source, row, [float(column[0]) for column in features.values()]
            )
        return found

    def sure(self, source: int, row: int, output: list[float]) -> list[float]:
        """An event that is dated after its publication does not wait for outcomes until then."""
        of = self.events[source]
        return output if of.times[row] <= of.published[row] else output[:2]

    def answers(self) -> Answers:
        """What stands on the topic; no gap, and no claim to have answered what is not there."""
        found: Answers = {
            (lane, source): {} for lane in range(PARTITIONS) for source in range(PARTITIONS)
        }
        frontiers = dict.fromkeys(found, -1)
        for source in range(PARTITIONS):
            for each in self.broker.of(self.topology.stage(NAME), source):
                headers = dict(each.headers)
                heartbeat = heartbeat_of(each.value, headers)
                if heartbeat is not None:
                    assert heartbeat.lane is not None
                    key = heartbeat.lane, source
                    reached = heartbeat.frontier
                else:
                    made = decode(each.value, headers)
                    assert made.lane is not None
                    key, reached = (made.lane, source), made.covers_to
                    assert made.covers_from <= frontiers[key] + 1, "a gap"
                    for offset, said in self.said(made):
                        known = found[key].setdefault(offset, said)
                        assert known == said or {"WorkerEnded", "early"} & {known[2], said[2]}
                frontiers[key] = max(frontiers[key], reached)
                owed = [r for r in self.expected_rows(key[0], source) if r <= frontiers[key]]
                missing = [r for r in owed if r not in found[key]]
                assert not missing, f"of lane and source {key} it claims {frontiers[key]}"
        return found

    def said(self, made: StageBatch) -> Iterator[tuple[int, Said]]:
        """Of each row of a batch what it says, and whether the row was early."""
        errors = {failure.row: failure.error for failure in made.failures}
        for row, offset in enumerate(made.rows.offsets.tolist()):
            present = bool(made.present[row])
            output = self.sure(made.partition, offset, made.output[row].tolist())
            is_early = made.early is not None and made.early[row]
            error = errors.get(row, "early" if is_early else "")
            yield offset, Said(present, output if present else [], error)

    def check(self) -> None:
        answers = self.answers()
        for lane in range(PARTITIONS):
            expected = self.expected(lane)
            for source in range(PARTITIONS):
                for row in self.expected_rows(lane, source):
                    present, output, error = answers[lane, source][row]
                    if not self.events[source].valid[row]:
                        assert not present
                    elif (source, row) == self.fatal:
                        assert error == "WorkerEnded"
                    else:
                        if (error == "WorkerEnded" and self.by_chance) or error == "early":
                            continue
                        assert present, (lane, source, row, error)
                        assert output == pytest.approx(expected[source, row], nan_ok=True), (
                            lane,
                            source,
                            row,
                        )


async def continues(*_: object) -> None:
    """No topic is made anew here."""


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    path = tmp_path / "sim.yaml"
    path.write_text(FILE)
    return load_pipeline(path).pipeline


@pytest.mark.parametrize("seed", range(16))
async def test_each_row_is_answered_once_as_one_pass_in_order_would(
    seed: int, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(seed)
    monkeypatch.setattr(keyed_stage, "check_continues", continues)
    monkeypatch.setattr(keyed_stage, "MAX_BYTES", random.choice([2500, 8000, 20_000, 2**26]))
    simulation = Simulation(random, pipeline, crashes=[0.0, 0.02, 0.05][seed % 3],
                            fatal=seed % 4 == 0)  # fmt: skip
    await simulation.run(6000)
    simulation.check()
