"""The components that one worker runs on the same rows: mostly one; several where they are fused.

They follow each other in the order of the flow, and each writes its own topic, what it reads first:
so on the broker none is ahead of what it reads. After a crash one may be behind. Then what the
others have written stands, and it reads that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.components import Made, Slot
from agents.join import Given, StageRows, aligned, failures_of
from agents.redrive import RedriveResult, joined_rows
from agents.stages.fused_session import FusedModels
from agents.stages.stage_writer import StageWriter
from agents.stages.written_batches import Recorded
from agents.workers import (
    WORKER_ENDED,
    StageMetrics,
    StagePulse,
    TailReader,
    Trial,
    Wiring,
    all_done,
)
from models.component import Batch, StageOutput
from topics.pipeline import EVENTS, in_generations
from topics.records import Failure, Ints, StageBatch
from topics.redrive import RedriveRecord


@dataclass(frozen=True, slots=True)
class Member:
    """One of the components."""

    name: str
    inputs: Sequence[str]
    slot: Slot
    writer: StageWriter


class Chain:
    """Runs the components of a worker and writes what they make."""

    def __init__(
        self, wiring: Wiring, slots: Mapping[str, Slot], metrics: Mapping[str, StageMetrics]
    ) -> None:
        inputs = {name: wiring.pipeline.component(name).inputs for name in slots}
        self._members: dict[str, Member] = {}
        for name, slot in slots.items():
            writer = StageWriter(wiring.observed_by(metrics[name]), name, slot)
            self._members[name] = Member(name, inputs[name], slot, writer)
        self._fused = None
        if len(slots) > 1:
            self._fused = FusedModels(wiring, slots)
        flow = ([it for it in names if it in slots] for names in in_generations(wiring.pipeline))
        self._generations = [names for names in flow if names]
        self._read = {it for names in inputs.values() for it in names}
        self._recorded: dict[int, dict[str, tuple[int, Recorded]]] = {}
        self._trials: dict[int, Trial] = {}

    @property
    def pulses(self) -> list[StagePulse]:
        """What the components say on their topics."""
        return [member.writer.pulse for member in self._members.values()]

    @property
    def names(self) -> list[str]:
        """The components, in the order of the flow."""
        return [*self._members]

    async def open(self, tail: TailReader, partition: int) -> int:
        """The highest source offset that every component's topic has an output for; -1 for none."""
        writers = {name: member.writer for name, member in self._members.items()}
        done = {name: await it.last_written(tail, partition) for name, it in writers.items()}
        least = min(done.values())
        self._recorded[partition] = {
            name: (last, await Recorded.after(tail, writers[name].topic, partition, least))
            for name, last in done.items()
            if last > least
        }
        behind = next(name for name, last in done.items() if last == least)
        self._trials[partition] = await Trial.of(
            tail, writers[behind].topic, partition, behind, least
        )
        return least

    async def write(self, given: Given) -> None:
        """Write what the components make of the rows, but for what they have written before."""
        trial = self._trials.get(given.partition)
        if trial is None:
            await self._write(given)
            return
        offsets = given.rows.offsets
        for start, stop, passed_over in trial.parts(offsets):
            # Also of what is passed over: so it shows that whoever tried it last has ended.
            first, last = int(offsets[start]), int(offsets[stop - 1])
            await all_done([it.tries(given.partition, first, last) for it in self.pulses])
            await self._write(given[start:stop], passed_over)
        if len(offsets) and trial.is_over(int(offsets[-1])):
            del self._trials[given.partition]

    async def _write(self, given: Given, passed_over: str = "") -> None:
        """Write the rows; with a reason to pass them over, that they are absent."""
        ready: Mapping[str, Made] = {}
        alone = passed_over or self._recorded[given.partition]
        if self._fused is not None and not alone:
            ready = await self._fused.run(given)
        stages = dict(given.stages)
        new: dict[str, StageBatch] = {}
        for member in self._members.values():
            if passed_over:
                batch = await self._absent(member, given, passed_over)
            else:
                batch = await self._made(member, given, stages, ready.get(member.name))
            parts, n = await self._standing(member, given)
            if n < len(batch):
                new[member.name] = batch[n:]
                parts.append(new[member.name])
            if member.name in self._read:
                stages[member.name] = aligned(parts, given.rows.offsets)
        for names in self._generations:
            await all_done([self._members[it].writer.write([new[it]]) for it in names if it in new])

    async def only(self, name: str, given: Given) -> StageBatch:
        """What one component makes of the rows; nothing is written."""
        return await self._made(self._members[name], given, given.stages, None)

    async def redriven(self, name: str, redrives: Sequence[RedriveRecord]) -> RedriveResult:
        """What a component that reads others makes of redriven events of one partition."""
        _, joined, refused = joined_rows(redrives, self._members[name].inputs)
        if joined is None:
            return RedriveResult(None, refused)
        given = Given.of(redrives[0].partition, joined)
        return RedriveResult(await self.only(name, given), refused)

    async def _made(
        self, member: Member, given: Given, stages: Mapping[str, StageRows], made: Made | None
    ) -> StageBatch:
        """Rows that every input of the component has are transformed, the others are absent.

        *made* has the outputs, if they are there already.
        """
        n = len(given.rows)
        failures: Mapping[int, Failure]
        if given.events is not None and EVENTS in member.inputs:
            batch, rows, failures = given.events
        else:
            read = {name: stages[name] for name in member.inputs}
            rows = np.flatnonzero(np.logical_and.reduce([it.present for it in read.values()]))
            batch, failures = _batch(read, rows, n), failures_of(read)
        if made is None:
            made = await member.writer.transform(batch, rows, n)
        return member.writer.batch(given.partition, given.covers_from, given.rows, made, failures)

    async def _absent(self, member: Member, given: Given, reason: str) -> StageBatch:
        """Rows that are not to be run on."""
        n = len(given.rows)
        failures = {row: Failure(row, member.name, WORKER_ENDED, reason) for row in range(n)}
        nothing = await member.writer.transform(Batch(0), np.empty(0, np.int64), n)
        return member.writer.batch(
            given.partition, given.covers_from, given.rows, nothing, failures
        )

    async def _standing(self, member: Member, given: Given) -> tuple[list[StageBatch], int]:
        """What the component has written of the first rows before, and how many these are."""
        recorded = self._recorded[given.partition]
        if member.name not in recorded:
            return [], 0
        last, outputs = recorded[member.name]
        n = int(given.rows.offsets.searchsorted(last, "right"))
        if n < len(given.rows):
            del recorded[member.name]  # the rest is new
        return (await outputs.of(given.rows.offsets[:n]) if n else []), n


def _batch(read: Mapping[str, StageRows], rows: Ints, n: int) -> Batch:
    """The inputs' outputs for *rows* of N."""
    if len(rows) == n:
        inputs = {name: StageOutput(it.output, it.signal) for name, it in read.items()}
    else:
        inputs = {name: StageOutput(it.output[rows], it.signal[rows]) for name, it in read.items()}
    return Batch(rows=len(rows), inputs=inputs)
