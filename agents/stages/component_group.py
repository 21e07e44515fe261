"""The components that one worker runs on the same rows: mostly one; several where they are fused.

`fuse:` of the pipeline file says which (`topics.pipeline.checks` whether they can). The rest
of the pipeline does not notice:

- They follow each other in the order of the flow, and each writes its own topic, what it reads
  first: on the broker none is ahead of what it reads.
- After a crash one may be behind. Then what the others have written stands, and it reads that.
- Rows that no component has written yet, and nobody challenges, run in one session (`FusedModels`)
  if that gives the bits that their models give one by one (`models.onnx.fuse`); else one by one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agents.components import ActiveComponent, ModelOutputs
from agents.join import StageInput, StageRows, aligned, early_of, failures_of
from agents.recovery import PoisonRows, WrittenBatches
from agents.redrive import RedriveResult, joined_rows
from agents.stages.fused_session import FusedModels
from agents.stages.stage_writer import StageWriter
from agents.workers import WORKER_ENDED, StageMetrics, StagePulse, TailReader, Wiring, all_done
from models.component import Batch, StageOutput
from topics.errors import WireError
from topics.pipeline import EVENTS, in_generations
from topics.records import Failure, Ints, StageBatch
from topics.redrive import RedriveBatch


@dataclass(frozen=True, slots=True)
class Member:
    """One of the components."""

    name: str
    inputs: Sequence[str]
    writer: StageWriter


class ComponentGroup:
    """Runs the components of a worker and writes their outputs."""

    def __init__(
        self,
        wiring: Wiring,
        components: Mapping[str, ActiveComponent],
        metrics: Mapping[str, StageMetrics],
    ) -> None:
        self._members: dict[str, Member] = {}
        self._spans = wiring.spans
        for name, active in components.items():
            writer = StageWriter(wiring.observed_by(metrics[name]), name, active)
            self._members[name] = Member(name, wiring.pipeline.component(name).inputs, writer)
        self._fused = FusedModels(wiring, components) if len(components) > 1 else None
        flow = in_generations(wiring.pipeline)
        generations = ([name for name in names if name in components] for names in flow)
        self._generations = [names for names in generations if names]
        self._read = {name for member in self._members.values() for name in member.inputs}
        self._written: dict[int, dict[str, tuple[int, WrittenBatches]]] = {}
        """Partition → the components that are ahead of others: how far, and their outputs."""
        self._poison_rows: dict[int, PoisonRows] = {}

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
        last_written = {
            name: await writer.last_written(tail, partition) for name, writer in writers.items()
        }
        least = min(last_written.values())
        self._written[partition] = {
            name: (last, await WrittenBatches.after(tail, writers[name].topic, partition, least))
            for name, last in last_written.items()
            if last > least
        }
        behind = next(name for name, last in last_written.items() if last == least)
        self._poison_rows[partition] = await PoisonRows.of(
            tail, writers[behind].topic, partition, behind, least
        )
        return least

    async def write(self, rows: StageInput) -> None:
        """Write the components' outputs for *rows*, but for what they have written before."""
        poison_rows = self._poison_rows.get(rows.partition)
        if poison_rows is None:
            await self._write(rows)
            return
        offsets = rows.rows.offsets
        for start, stop, passed_over in poison_rows.row_ranges(offsets):
            # Also of what is passed over: so it shows that whoever tried it last has ended.
            first, last = int(offsets[start]), int(offsets[stop - 1])
            await all_done([pulse.tries(rows.partition, first, last) for pulse in self.pulses])
            await self._write(rows[start:stop], passed_over)
        if len(offsets) and poison_rows.is_over(int(offsets[-1])):
            del self._poison_rows[rows.partition]

    async def only(self, name: str, rows: StageInput) -> StageBatch:
        """What one component makes of *rows*; nothing is written."""
        return await self._outputs(self._members[name], rows, rows.stages, None)

    async def redriven(self, name: str, redrives: RedriveBatch) -> RedriveResult:
        """What a component that reads others makes of redriven events."""
        try:
            joined = joined_rows(redrives, self._members[name].inputs)
        except WireError as exc:
            return RedriveResult(None, {event.offset: exc for event in redrives.events})
        return RedriveResult(await self.only(name, StageInput.of(redrives.partition, joined)))

    async def _write(self, rows: StageInput, passed_over: str = "") -> None:
        """Write the rows' outputs; with a reason to pass them over, that they are absent."""
        fused: Mapping[str, ModelOutputs] = {}
        one_by_one = passed_over or self._written[rows.partition]
        began_ns = time.time_ns()
        if self._fused is not None and not one_by_one:
            fused = await self._fused.run(rows)
        stages = dict(rows.stages)
        new: dict[str, StageBatch] = {}
        for member in self._members.values():
            if passed_over:
                batch = await self._absent(member, rows, passed_over)
            else:
                batch = await self._outputs(member, rows, stages, fused.get(member.name))
            batches, n = await self._written_before(member, rows)
            if n < len(batch):
                new[member.name] = batch[n:]
                batches.append(new[member.name])
            if member.name in self._read:
                stages[member.name] = aligned(batches, rows.rows.offsets)
        for names in self._generations:
            await all_done([
                self._members[name].writer.write([new[name]]) for name in names if name in new
            ])  # fmt: skip
        for name, batch in new.items():
            self._spans.processed(name, batch, began_ns)

    async def _outputs(
        self,
        member: Member,
        rows: StageInput,
        stages: Mapping[str, StageRows],
        fused: ModelOutputs | None,
    ) -> StageBatch:
        """Rows that every input of the component has are transformed, the others are absent.

        *fused* has the outputs, if they are there already.
        """
        n = len(rows.rows)
        failures: Mapping[int, Failure]
        early = None
        if rows.events is not None and EVENTS in member.inputs:
            batch, valid, failures = rows.events
        else:
            inputs = {name: stages[name] for name in member.inputs}
            valid = np.flatnonzero(
                np.logical_and.reduce([stage.present for stage in inputs.values()])
            )
            batch, failures, early = _batch(inputs, valid, n), failures_of(inputs), early_of(inputs)
        result = fused or await member.writer.transform(batch, valid, n)
        output = member.writer.batch(rows.partition, rows.covers_from, rows.rows, result, failures)
        return output if early is None else replace(output, early=early)

    async def _absent(self, member: Member, rows: StageInput, reason: str) -> StageBatch:
        """Rows that are not to be run on."""
        n = len(rows.rows)
        failures = {row: Failure(row, member.name, WORKER_ENDED, reason) for row in range(n)}
        nothing = await member.writer.transform(Batch(0), np.empty(0, np.int64), n)
        return member.writer.batch(rows.partition, rows.covers_from, rows.rows, nothing, failures)

    async def _written_before(
        self, member: Member, rows: StageInput
    ) -> tuple[list[StageBatch], int]:
        """What the component has written of the first rows before, and how many these are."""
        written = self._written[rows.partition]
        if member.name not in written:
            return [], 0
        last, outputs = written[member.name]
        n = int(rows.rows.offsets.searchsorted(last, "right"))
        if n < len(rows.rows):
            del written[member.name]  # the rest is new
        return (await outputs.of(rows.rows.offsets[:n]) if n else []), n


def _batch(inputs: Mapping[str, StageRows], rows: Ints, n: int) -> Batch:
    """The inputs' outputs for *rows* of N."""
    if len(rows) == n:
        outputs = {name: StageOutput(stage.output, stage.signal) for name, stage in inputs.items()}
    else:
        outputs = {
            name: StageOutput(stage.output[rows], stage.signal[rows])
            for name, stage in inputs.items()
        }
    return Batch(rows=len(rows), inputs=outputs)
