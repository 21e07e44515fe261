"""Which component is next to deal with redriven events, and on which partition it reads them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from topics.events import EventDecoder
from topics.pipeline import EVENTS, WEIGH, Pipeline, Topology, in_order, lane_of
from topics.records import Ints
from topics.redrive.record import RedriveBatch


class RedriveRoute:
    """The way of redriven events through a pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._topology = Topology.of(pipeline)
        self._order = in_order(pipeline)
        self._events = EventDecoder(pipeline.event)

    def onward(self, batch: RedriveBatch) -> RedriveBatch:
        """The batch addressed to the first component without an output; then to `weigh`."""
        missing = (name for name in self._order if name not in batch.outputs)
        return batch.to(next(missing, WEIGH))

    def knows(self, component: str) -> bool:
        """The pipeline has such a component."""
        return component == WEIGH or component in self._order

    def partitions(self, batch: RedriveBatch) -> Ints:
        """Each event's (N,): the source's; for a repartitioned component, that of its key."""
        partitions = np.full(len(batch), batch.partition, np.int64)
        if batch.next in self._topology.repartitioned:
            decoded = self._events.decode(batch.events)
            entities = decoded.columns[self._pipeline.entity(batch.next)].tolist()
            lanes = [lane_of(str(entity), self._topology.partitions) for entity in entities]
            partitions[decoded.valid] = lanes
        return partitions

    def reusable(self, present: Collection[str]) -> tuple[str, ...]:
        """Components whose outputs need not be made again, of those that are *present*.

        All that they were made of is there too.
        """
        reused: list[str] = []
        for name in self._order:
            inputs = {*self._pipeline.component(name).inputs} - {EVENTS}
            if inputs <= {*reused} and name in present:
                reused.append(name)
        return tuple(reused)
