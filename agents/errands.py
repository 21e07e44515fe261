"""What a component does about the redrive topic: its part of an errand, then it passes it on.

Errands are few and travel beside the stream: events on their first way are not touched.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.alignment import aligned
from agents.join import Joined
from agents.worker import Wiring, all_done
from topics.batches import Record
from topics.errand_route import ErrandRoute
from topics.errors import WireError
from topics.redrive import Errand, decoded, encoded
from topics.stage_batch import StageBatch

log = logging.getLogger(__name__)

Run = Callable[[Errand], Awaitable[StageBatch | None]]
"""Runs a component on an errand's event; None when it cannot do so yet."""


def joined_of(errand: Errand, inputs: Sequence[str]) -> Joined:
    """An errand's event as a join would hand it on; WireError when it has no output at all."""
    rows = next((batch.rows for batch in errand.outputs.values()), None)
    if rows is None:
        raise WireError(f"not an errand: {errand.about.next} needs outputs")
    parts = {name: [errand.outputs[name]] if name in errand.outputs else [] for name in inputs}
    stages = {name: aligned(batches, rows.offsets) for name, batches in parts.items()}
    return Joined(rows, stages, {}, errand.offset, 0)


class Errands(ABC):
    """Reads the redrive topic in order; a record that has to wait holds up those behind it."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.route = ErrandRoute(wiring.pipeline)
        self._topic = wiring.topology.redrive
        self._queues: dict[int, deque[ConsumerRecord]] = {}

    @property
    def waits(self) -> bool:
        """Some errand cannot be dealt with yet."""
        return any(self._queues.values())

    def forget(self) -> None:
        """Partitions may have new owners: what was read is read again."""
        self._queues.clear()

    async def deal(self, fetched: Mapping[TP, Sequence[ConsumerRecord]]) -> None:
        """Deal with records of the redrive topic; returns when what they lead to is written."""
        for tp, records in fetched.items():
            self._queues.setdefault(tp.partition, deque()).extend(records)
        for partition, queue in self._queues.items():
            last = queue[-1].offset if queue else 0
            if queue and await self.work_off(partition, queue):
                after = queue[0].offset if queue else last + 1
                self.wiring.app.batches.done({TP(self._topic, partition): after})

    @abstractmethod
    async def work_off(self, partition: int, queue: deque[ConsumerRecord]) -> bool:
        """Take off *queue* what can be dealt with; False when that is nothing."""

    async def pass_on(self, errands: Sequence[Errand]) -> None:
        """Write errands to those that are to deal with them next."""
        now_ms, records = int(time.time() * 1000), defaultdict[int, list[Record]](list)
        for errand in errands:
            records[self.route.partition(errand)].append(encoded(errand, now_ms))
        write = self.wiring.app.writer.write
        await all_done([write(self._topic, at, batch) for at, batch in records.items()])

    def decoded(self, record: ConsumerRecord) -> Errand:
        """The errand of a record; WireError for one that is none of this pipeline's."""
        errand = decoded(record.key, record.value, record.headers)
        topology = self.wiring.topology
        of = errand.about.source
        if of.topic != topology.events or of.partition >= topology.partitions:
            raise WireError(f"not an errand: its source is {of.topic}[{of.partition}]")
        known = errand.about.next is not None and self.route.knows(errand.about.next)
        if known and self.route.partition(errand) != record.partition:
            raise WireError(f"not an errand: {errand.about.next} reads it on another partition")
        return errand

    def skip(self, record: ConsumerRecord, exc: WireError) -> None:
        """Say that a record is no errand that can be dealt with."""
        log.warning("%s[%d]@%d skipped: %s", record.topic, record.partition, record.offset, exc)
        self.wiring.metrics.observe_skipped()


class StageErrands(Errands):
    """Runs components on the events of the errands that are addressed to them, by name."""

    def __init__(self, wiring: Wiring, runs: Mapping[str, Run]) -> None:
        super().__init__(wiring)
        self._runs = runs
        self._held: set[TP] = set()

    async def work_off(self, partition: int, queue: deque[ConsumerRecord]) -> bool:
        """Run the components, row by row; the errands go on to the next."""
        onward: list[Errand] = []
        before = len(queue)
        while queue:
            if (addressed := self._addressed(queue[0])) is not None:
                errand, run = addressed
                try:
                    made = await run(errand)
                except WireError as exc:
                    self.skip(queue[0], exc)
                else:
                    if made is None:
                        break
                    onward.append(self.route.onward(errand.with_output(made)))
            queue.popleft()
        if onward:
            await self.pass_on(onward)
        self._pause(TP(self._topic, partition), waits=bool(queue))
        return len(queue) < before

    def _addressed(self, record: ConsumerRecord) -> tuple[Errand, Run] | None:
        """The record's errand, and how to run what is next; None when that is not here."""
        try:
            errand = self.decoded(record)
        except WireError:
            return None  # the weighting agent reads all records, and says so
        run = self._runs.get(errand.about.next or "")
        return None if run is None else (errand, run)

    def _pause(self, tp: TP, *, waits: bool) -> None:
        """Read no more behind an errand that waits: it is not stuck."""
        held = self._held | {tp} if waits else self._held - {tp}
        if held != self._held:
            self._held = held
            self.wiring.app.batches.pause_only(held)

    def forget(self) -> None:
        """Partitions may have new owners: what was read is read again."""
        super().forget()
        self._held = set()
