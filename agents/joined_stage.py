"""A component that reads other components: join by offset, transform, write."""

from __future__ import annotations

import numpy as np

from agents.errands import StageErrands, joined_of
from agents.join import Joined, PartitionJoin
from agents.joined_worker import JoinedWorker
from agents.slot import Slot
from agents.stage_writer import StageWriter
from agents.worker import Wiring
from models.component import Batch, StageOutput
from topics.redrive import Errand
from topics.stage_batch import StageBatch


class JoinedStage(JoinedWorker):
    """Runs a component over the joined outputs of its inputs."""

    def __init__(self, wiring: Wiring, name: str, slot: Slot) -> None:
        # Half the deadline: the weighting agent, which waits for this stage too, gives
        # up on a row only after the whole of it.
        super().__init__(
            wiring, wiring.pipeline.component(name).inputs,
            wiring.pipeline.weighting.deadline_ms / 2000,
        )  # fmt: skip
        self._writer = StageWriter(wiring, name, slot)
        self.errands = StageErrands(wiring, name, self._redriven)

    async def open_state(self, partition: int) -> PartitionJoin:
        """Continue after what the component's topic already answers for."""
        return self.new_join(await self._writer.last_written(self.tail, partition))

    async def emit(self, partition: int, joined: Joined) -> None:
        """Write what the component makes of the rows."""
        await self._writer.write([await self._made(partition, joined)])

    async def _redriven(self, errand: Errand) -> StageBatch:
        return await self._made(errand.partition, joined_of(errand, self._inputs))

    async def _made(self, partition: int, joined: Joined) -> StageBatch:
        """Transform the rows that every input has; pass the others on as absent."""
        present = np.logical_and.reduce([stage.present for stage in joined.stages.values()])
        rows = np.flatnonzero(present)
        inputs = {
            name: StageOutput(stage.output, stage.signal)
            if len(rows) == len(present)
            else StageOutput(stage.output[rows], stage.signal[rows])
            for name, stage in joined.stages.items()
        }
        batch = Batch(rows=len(rows), inputs=inputs)
        made = await self._writer.transform(batch, rows, len(present))
        return self._writer.batch(
            partition, joined.covers_from, joined.rows, made, joined.failures()
        )
