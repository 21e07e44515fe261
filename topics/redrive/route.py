"""The way of an errand: through the components that have no output yet, in the flow's order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from topics.events import EventDecoder
from topics.pipeline import EVENTS, WEIGH, Pipeline, Topology, in_order, lane_of
from topics.records import StageBatch
from topics.redrive.outputs import ErrandOutputs
from topics.redrive.record import Errand


class ErrandRoute:
    """Says of an errand which component comes next, and on which partition that one reads it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._topology = Topology.of(pipeline)
        self._order = in_order(pipeline)
        self._events = EventDecoder(pipeline.event)

    def onward(self, errand: Errand) -> Errand:
        """The errand addressed to the first component without an output; then to `weigh`."""
        missing = (name for name in self._order if name not in errand.outputs)
        return errand.to(next(missing, WEIGH))

    def knows(self, component: str) -> bool:
        """The pipeline has such a component."""
        return component == WEIGH or component in self._order

    def partition(self, errand: Errand) -> int:
        """The source's partition; for a repartitioned component, that of its key."""
        return self.partitions([errand])[0]

    def partitions(self, errands: Sequence[Errand]) -> list[int]:
        """The partition of each errand (N), see `partition`."""
        where = [errand.partition for errand in errands]
        by_key = defaultdict[str, list[int]](list)
        for place, errand in enumerate(errands):
            if errand.about.next in self._topology.repartitioned:
                by_key[errand.about.next].append(place)
        for name, places in by_key.items():
            decoded = self._events.decode([errands[place] for place in places])
            entities = decoded.columns[self._pipeline.entity(name)].tolist()
            for row, entity in zip(decoded.valid.tolist(), entities, strict=True):
                where[places[row]] = lane_of(str(entity), self._topology.partitions)
        return where

    def kept(self, outputs: Mapping[str, StageBatch]) -> ErrandOutputs:
        """Outputs that need not be made again: they are there, and all they were made of too."""
        known, kept = ErrandOutputs.of(outputs), set[str]()
        for name in self._order:
            inputs = {*self._pipeline.component(name).inputs} - {EVENTS}
            if inputs <= kept and known.is_present(name):
                kept.add(name)
        return known.only([name for name in self._order if name in kept])
