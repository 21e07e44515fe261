"""Workers that read stage topics: one offset-aligned join per source partition.

`JoinWorker` feeds the joins, for components (`JoinStage`) and for the weighting agent
(`agents.weigh.weigher`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.join import JoinedRows, Moment, PartitionJoin, StageInput
from agents.redrive import StageRedrive
from agents.stages.component_group import ComponentGroup
from agents.workers import PartitionHealth, StagePulse, Wiring, Worker, all_done
from topics.errors import WireError
from topics.pipeline import inputs_of
from topics.records import AwaitedInput, StageBatch, decode, heartbeat_of
from topics.transport import Fetch

log = logging.getLogger(__name__)

_LOOK_S = 0.02
"""How often partitions that got nothing are looked at: rows may not have to wait any longer."""


class JoinWorker(Worker[PartitionJoin]):
    """Feeds the joins and hands on what leaves them. Subclasses say what is done with it."""

    source: str | None = None
    """An input that tells of every row without being a stage."""
    runs: Sequence[str] = ()
    """The components that what leaves the joins is for."""

    def __init__(self, wiring: Wiring, inputs: Sequence[str], sources: Sequence[str]) -> None:
        super().__init__(wiring, sources)
        self._inputs = inputs
        self._look_at = 0.0
        self._stage_of = {self.topology.stage(name): name for name in inputs}

    async def emit(self, partition: int, joined: JoinedRows) -> None:
        """Deal with joined rows; returns when what they lead to is written."""
        raise NotImplementedError

    def closed(self, join: PartitionJoin, at: Moment) -> JoinedRows | None:  # noqa: ARG002
        """Rows that need not wait for all answers: none, for all but the weighting agent."""
        return None

    def new_join(self, partition: int, done: int) -> PartitionJoin:
        """A join of *partition* that starts after source offset *done*.

        What this worker may hold is divided among the inputs of all its partitions.
        """
        inputs = len(self.sources)
        weighting = self.wiring.pipeline.weighting
        return PartitionJoin(
            self._inputs, done=done, at=self._moment(partition),
            stall_timeout_s=self.stall_timeout_s, max_rows=weighting.max_in_flight,
            max_bytes=max(1, weighting.max_in_flight_bytes // max(1, len(self.owned) * inputs)),
            lanes=dict.fromkeys(self.topology.repartitioned, self.topology.partitions),
            source=self.source,
        )  # fmt: skip

    def _moment(self, partition: int) -> Moment:
        def unread(stage: str) -> bool:
            return self.wiring.app.batches.has_unread(TP(self.topology.stage(stage), partition))

        return Moment(time.monotonic(), self.clock.now(), unread)

    async def process(self, fetch: Fetch) -> None:
        """Push what was fetched, emit what need not wait any more."""
        started = time.perf_counter()
        pushed = 0
        for tp, records in fetch.records.items():
            join, at = await self.state(tp.partition), self._moment(tp.partition)
            for record in records:
                pushed += self._take(join, tp, record, at)
        touched = {tp.partition for tp in fetch.records}
        if started >= self._look_at or not touched:
            self._look_at = started + _LOOK_S
            touched = {partition for partition, _ in self.states()}
        self._excuse_the_unheard()
        await all_done([self._emit_all(p, join) for p, join in self.states() if p in touched])
        self._go_back()
        self._pause_what_runs_ahead()
        if pushed:
            self.wiring.metrics.observe_batch(pushed, time.perf_counter() - started)

    def _take(self, join: PartitionJoin, tp: TP, record: ConsumerRecord, at: Moment) -> int:
        """Give a record to its join; how many rows it has."""
        position = (tp, record.offset + 1)
        try:
            headers = dict(record.headers)
            # Anybody may publish events, with any headers: none of them is a heartbeat.
            of_stage = tp.topic in self._stage_of
            heartbeat = heartbeat_of(record.value, headers) if of_stage else None
            if heartbeat is not None:
                lane = (heartbeat.component, heartbeat.partition, heartbeat.lane)
                self._check(tp, join, *lane)
                join.hear(heartbeat, position, at)
                return 0
            batch = self.decoded(tp, record, headers)
            self._check(tp, join, batch.component, batch.partition, batch.lane)
        except WireError as exc:
            # Not a row of ours: rows come in batches that our components wrote.
            log.warning("%s[%d]@%d skipped: %s", tp.topic, tp.partition, record.offset, exc)
            self.wiring.metrics.observe_skipped()
            join.pass_over(position)
            return 0
        self._observe_arrival(batch)
        # Of an event nothing is kept but what is in its row.
        join.push(batch, position, at, len(record.value or b"") if of_stage else 0)
        return len(batch)

    def _observe_arrival(self, batch: StageBatch) -> None:
        """For those who wait for it: a join of one input alone waits for nothing."""
        if len(self.sources) > 1:
            for name in self.runs:
                self.wiring.spans.arrived(name, batch)

    def decoded(self, tp: TP, record: ConsumerRecord, headers: dict[str, bytes]) -> StageBatch:  # noqa: ARG002
        """The rows of a record that is no heartbeat. Raises WireError."""
        return decode(record.value, headers)

    def _check(
        self, tp: TP, join: PartitionJoin, component: str, partition: int, lane: int | None
    ) -> None:
        """Raise WireError for what belongs elsewhere."""
        known = component == self._stage_of.get(tp.topic, self.source)
        if not (known and join.has_lane(component, lane) and partition == tp.partition):
            raise WireError(f"it is of {component}[{partition}], which belongs elsewhere")

    async def _emit_all(self, partition: int, join: PartitionJoin) -> None:
        while True:
            joined = join.pop() or self.closed(join, self._moment(partition))
            if joined is None:
                break
            if len(joined.rows):
                await self.emit(partition, joined)
                self.steps += 1
            self.wiring.app.batches.done(joined.positions)  # type: ignore[arg-type]  # TPs
        late, join.late_rows = join.late_rows, 0
        if late:
            self.wiring.metrics.observe_late_answers(late)

    def waits(self) -> bool:
        """Rows may have to be let go, or a stage may be found to be down."""
        return any(join.holds_rows for _, join in self.states())

    def health(self, partition: int) -> PartitionHealth:
        """What the rows of the partition wait for."""
        join = self._states.get(partition)
        if join is None:
            return PartitionHealth("starting")
        at = self._moment(partition)
        wall_ms = time.time() * 1000
        waits = {
            name: AwaitedInput(
                since_ms=max(0, int(wall_ms - (at.now - wait.since) * 1000)),
                down=bool(wait.down), why=wait.down[:300],
            )
            for name, wait in join.waits(at).items()
        }  # fmt: skip
        held = join.holds_rows and bool(waits)
        return PartitionHealth("waiting" if held else "working", waits,
                        join.pending_rows, join.oldest_ms())  # fmt: skip

    def _excuse_the_unheard(self) -> None:
        """A stage may have written what we cannot fetch, or cannot have written either."""
        hears, now = self.wiring.app.batches.hears, self.clock.now()
        for partition, join in self.states():
            for topic, stage in self._stage_of.items():
                if not hears(TP(topic, partition)):
                    join.not_listening(stage, now)

    def _go_back(self) -> None:
        """Read again what was read, but could not be held."""
        for _, join in self.states():
            for tp, offset in join.read_again().items():
                self.wiring.app.batches.rewind(tp, offset)  # type: ignore[arg-type]  # TPs

    def _pause_what_runs_ahead(self) -> None:
        """Pause the inputs that are far ahead, and excuse what waits for another stage's answer."""
        batches = self.wiring.app.batches
        paused: set[TP] = set()
        for partition, join in self.states():
            for stage in join.full_inputs():
                paused.add(TP(self.topology.stage(stage), partition))
                join.not_listening(stage, self.clock.now())
        batches.pause_only(paused)
        batches.excused = {
            TP(topic, partition)
            for partition, join in self.states()
            if join.holds_rows
            for topic in self.sources
        }


class JoinStage(JoinWorker):
    """Runs components over the joined outputs of their inputs.

    A row waits here until every input has answered it, however long that takes: what is to be done
    about one that does not is the weighting agent's to say.
    """

    def __init__(self, wiring: Wiring, group: ComponentGroup) -> None:
        inputs = inputs_of(wiring.pipeline, group.names)
        super().__init__(wiring, inputs, [wiring.topology.stage(name) for name in inputs])
        self._group, self.runs = group, group.names
        runs = {name: partial(group.redriven, name) for name in group.names}
        self.redrive = StageRedrive(wiring, runs)

    def pulses(self) -> Sequence[StagePulse]:
        """Those of its components."""
        return self._group.pulses

    async def open_state(self, partition: int) -> PartitionJoin:
        """Continue after what the components' topics already answer for."""
        return self.new_join(partition, await self._group.open(self.tail, partition))

    async def emit(self, partition: int, joined: JoinedRows) -> None:
        """Write what the components make of the rows."""
        await self._group.write(StageInput.of(partition, joined))
