"""Components that read other components: join by offset, transform, write."""

from __future__ import annotations

from functools import partial

from agents.chain import Chain
from agents.errands import StageErrands
from agents.given import Given
from agents.join import Joined, PartitionJoin
from agents.joined_worker import JoinedWorker
from agents.worker import Wiring
from topics.workers import inputs_of


class JoinedStage(JoinedWorker):
    """Runs components over the joined outputs of their inputs."""

    def __init__(self, wiring: Wiring, chain: Chain) -> None:
        # Half the deadline: the weighting agent, which waits for this stage too, gives
        # up on a row only after the whole of it.
        super().__init__(
            wiring, inputs_of(wiring.pipeline, chain.names),
            wiring.pipeline.weighting.deadline_ms / 2000,
        )  # fmt: skip
        self._chain = chain
        runs = {name: partial(chain.redriven, name) for name in chain.names}
        self.errands = StageErrands(wiring, runs)

    async def open_state(self, partition: int) -> PartitionJoin:
        """Continue after what the components' topics already answer for."""
        return self.new_join(await self._chain.open(self.tail, partition))

    async def emit(self, partition: int, joined: Joined) -> None:
        """Write what the components make of the rows."""
        await self._chain.write(Given.of(partition, joined))
