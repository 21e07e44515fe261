"""What every worker does: remember how far it got, write its stage batches, say so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, Protocol, TypeVar

import numpy as np
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.app import StageApp
from agents.in_step import InStep
from agents.slot import Made, Slot, exchanged, in_share, made_by
from agents.stage_metrics import StageMetrics
from agents.tail import TailReader
from agents.transforming import Transformed, spread
from models.component import Batch
from topics.batches import Record
from topics.fetch import Fetch
from topics.pipeline import Pipeline
from topics.settings import BrokerSettings
from topics.stage_batch import Bools, Failure, Ints, Rows, StageBatch
from topics.topology import Topology
from topics.wire import Codec, decode, encode

IN_THREAD_FROM = 256
"""Batches of this many rows are transformed in a thread: ONNX Runtime releases the GIL."""

IN_THREAD_FROM_S = 0.01
"""So are batches that will take longer, by the last one: heartbeats must not wait for them."""

MAX_RECORD_BYTES = 900_000
"""A stage batch larger than this is split; brokers refuse records over 1 MB by default."""

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a worker is connected to."""

    pipeline: Pipeline
    app: StageApp
    settings: BrokerSettings
    metrics: StageMetrics
    in_step: InStep = field(default_factory=InStep)
    """Shared by the components of a process."""

    @property
    def topology(self) -> Topology:
        """The pipeline's topic names."""
        return Topology.of(self.pipeline)


class Errands(Protocol):
    """What a worker does about the redrive topic, see `agents.errands`."""

    @property
    def waits(self) -> bool:
        """Some errand cannot be dealt with yet."""

    def forget(self) -> None:
        """Partitions may have new owners: what was read is read again."""

    async def deal(self, fetched: Mapping[TP, Sequence[ConsumerRecord]]) -> None:
        """Deal with records of the redrive topic; returns when what they lead to is written."""


class Worker(Generic[State]):
    """Keeps one `State` per source partition, opened from what the broker already holds."""

    errands: Errands | None = None

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.topology = wiring.topology
        self.tail = TailReader(wiring.settings)
        self._states: dict[int, State] = {}
        self._generation: int | None = None

    async def handle(self, fetch: Fetch) -> None:
        """Deal with one fetch; returns when its output is on the broker."""
        if fetch.generation != self._generation:
            self._states.clear()
            self._generation = fetch.generation
            if self.errands is not None:
                self.errands.forget()
        redriven = {tp: it for tp, it in fetch.records.items() if tp.topic == self.topology.redrive}
        if redriven:
            others = {tp: it for tp, it in fetch.records.items() if tp not in redriven}
            fetch = Fetch(others, fetch.generation)
        if fetch.records or not redriven:
            await self.process(fetch)
        if self.errands is not None and (redriven or self.errands.waits):
            await self.errands.deal(redriven)
        errand_waits = self.errands is not None and self.errands.waits
        self.wiring.app.batches.wants_ticks = errand_waits or self.waits()

    async def process(self, fetch: Fetch) -> None:
        """The worker's own part of `handle`."""
        raise NotImplementedError

    def waits(self) -> bool:
        """Time alone may give this worker something to do: it gets ticks while nothing comes."""
        return False

    async def open_state(self, partition: int) -> State:
        """The state of a source partition that this worker has just been given."""
        raise NotImplementedError

    async def state(self, partition: int) -> State:
        """The state of a source partition."""
        if partition not in self._states:
            self._states[partition] = await self.open_state(partition)
        return self._states[partition]

    def states(self) -> list[tuple[int, State]]:
        """All open states, by partition."""
        return sorted(self._states.items(), key=lambda item: item[0])


class StageWriter:
    """Turns rows into stage batches on a component's topic."""

    def __init__(self, wiring: Wiring, name: str, slot: Slot) -> None:
        self._wiring = wiring
        self._name = name
        self._slot = slot
        self._topic = wiring.topology.stage(name)
        self._shadow_topic = wiring.topology.shadow(name)
        self._thresholds = np.array(list(wiring.pipeline.policy.thresholds.values()))
        self._events = wiring.topology.events
        self._row_s = 0.0

    async def last_written(self, tail: TailReader, partition: int) -> int:
        """The highest source offset that the topic has an output for; -1 for none."""

        def source_offset(record: ConsumerRecord) -> int:
            return int(decode(record.value, dict(record.headers)).rows.offsets[-1])

        return max(await tail.last_read(self._topic, partition, source_offset), default=-1)

    async def transform(self, batch: Batch, rows: Ints, n: int) -> Made:
        """Run the component over *batch*, whose rows are *rows* of N."""
        started = time.perf_counter()
        if batch.rows >= IN_THREAD_FROM or batch.rows * self._row_s > IN_THREAD_FROM_S:
            champion, challenge = self._slot.champion, self._slot.challenge  # of this moment
            made = await asyncio.to_thread(made_by, champion, challenge, batch)
        else:
            made = self._slot.made(batch)
        took = time.perf_counter() - started
        if batch.rows:  # none says nothing about the next ones
            self._row_s = took / batch.rows
        self._wiring.metrics.observe_inference(took)
        return made.changed(lambda done: spread(done, rows, n))

    def batch(
        self,
        partition: int,
        covers_from: int,
        rows: Rows,
        made: Made,
        failures: Mapping[int, Failure],
        *,
        covers_to: int = -1,
        lane: int | None = None,
    ) -> StageBatch:
        """The rows' outputs as a stage batch; with a challenger, as two."""

        def batch(done: Transformed) -> StageBatch:
            own = {
                row: Failure(row, self._name, error, reason)
                for row, (error, reason) in done.errors.items()
            }
            all_failures = {**own, **failures}
            return StageBatch(
                component=self._name, topic=self._events, partition=partition,
                covers_from=covers_from, rows=rows, present=done.present, output=done.output,
                signal=done.signal, model=made.model,
                failures=tuple(all_failures[row] for row in sorted(all_failures)),
                covers_to=covers_to, lane=lane,
            )  # fmt: skip

        if made.beside is None:
            return batch(made.done)
        chosen = in_share(self._name, rows.keys, made.beside.share)
        (used, by_them), (unused, not_by_them) = exchanged(made, chosen)
        self._compare(made)
        beside = made.beside.model
        shadow = replace(batch(unused), challenger=beside, challenged=not_by_them)
        if not by_them.any():
            return replace(batch(used), shadow=shadow)
        self._wiring.metrics.observe_canary(int(by_them.sum()), len(rows))
        return replace(batch(used), challenger=beside, challenged=by_them, shadow=shadow)

    def _compare(self, made: Made) -> None:
        """Note how far the challenger's signals are from the champion's."""
        if made.beside is None:
            return
        both = made.done.present & made.beside.done.present
        ours, theirs = made.done.signal[both], made.beside.done.signal[both]
        flips = np.searchsorted(self._thresholds, ours, "right") != np.searchsorted(
            self._thresholds, theirs, "right"
        )
        self._wiring.metrics.observe_shadow(
            made.beside.model.model, np.abs(ours.astype(np.float64) - theirs), int(flips.sum())
        )

    async def write(self, batches: Sequence[StageBatch]) -> None:
        """Write batches of one source partition; each is a record (several if it is large)."""
        codec = self._wiring.pipeline.codec
        partition = batches[0].partition
        records = [record for batch in batches for record in encoded_records(batch, codec)]
        await self._wiring.app.writer.write(self._topic, partition, records)
        for batch in batches:
            self._wiring.metrics.observe_rows(batch.present, batch.failures)
            if len(batch):
                self._slot.written(batch.model, partition, int(batch.rows.offsets[0]))
        shadows = [batch.shadow for batch in batches if batch.shadow is not None]
        if shadows:
            records = [record for batch in shadows for record in encoded_records(batch, codec)]
            await self._wiring.app.writer.write(self._shadow_topic, partition, records)


def encoded_records(batch: StageBatch, codec: Codec) -> list[Record]:
    """The batch as one record, or as several when it is large."""
    value, headers = encode(batch, codec)
    if len(value) <= MAX_RECORD_BYTES or len(batch) <= 1:
        return [Record(None, value, int(time.time() * 1000), headers)]
    half = len(batch) // 2
    return encoded_records(batch[:half], codec) + encoded_records(batch[half:], codec)


async def all_done(jobs: Sequence[Awaitable[None]]) -> None:
    """Wait for all, also when one fails: no partition is still written when that is told."""
    if len(jobs) == 1:  # no task for it: most of a quiet stream's fetches are of one partition
        await jobs[0]
        return
    for result in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def is_backlog(published_ms: Ints, deadline_ms: int) -> Bools:
    """Which rows are already older than the deadline as the pipeline reads them."""
    return np.asarray(published_ms < time.time() * 1000 - deadline_ms)
