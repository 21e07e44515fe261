"""Components that read other components: join by offset, transform, write."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from agents.join import Given, Joined, PartitionJoin
from agents.redrive import StageRedrive
from agents.stages.component_group import Chain
from agents.stages.join_worker import JoinedWorker
from agents.workers import StagePulse, Wiring
from topics.pipeline import inputs_of


class JoinedStage(JoinedWorker):
    """Runs components over the joined outputs of their inputs.

    A row waits here until every input has answered it, however long that takes: what is to be done
    about one that does not is the weighting agent's to say.
    """

    def __init__(self, wiring: Wiring, chain: Chain) -> None:
        inputs = inputs_of(wiring.pipeline, chain.names)
        super().__init__(wiring, inputs, [wiring.topology.stage(name) for name in inputs])
        self._chain = chain
        runs = {name: partial(chain.redriven, name) for name in chain.names}
        self.redrive = StageRedrive(wiring, runs)

    def pulses(self) -> Sequence[StagePulse]:
        """Those of its components."""
        return self._chain.pulses

    async def open_state(self, partition: int) -> PartitionJoin:
        """Continue after what the components' topics already answer for."""
        return self.new_join(partition, await self._chain.open(self.tail, partition))

    async def emit(self, partition: int, joined: Joined) -> None:
        """Write what the components make of the rows."""
        await self._chain.write(Given.of(partition, joined))
