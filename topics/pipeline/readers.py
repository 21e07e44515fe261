"""Who reads a pipeline: each consumer group, the components that it runs, and its topics."""

from __future__ import annotations

from typing import NamedTuple

from topics.pipeline.order import inputs_of, workers
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import WEIGH, Topology

KEYED = ".keyed"
"""How the name of what deals events out to a component ends."""


class Reader(NamedTuple):
    """A worker with a consumer group of its own."""

    component: str
    """What `anabranch run --component` is told to have it run."""
    members: tuple[str, ...]
    """The components that it runs; the weighting agent by its name."""
    topics: tuple[str, ...]
    """What its rows come from. It also reads the redrive topic, and may read the sources."""


def readers(pipeline: Pipeline) -> dict[str, Reader]:
    """Each worker's name → what it is, in the order of the flow.

    What deals events out to component x is x.keyed: x's process runs it too.
    """
    topology = Topology.of(pipeline)
    found: dict[str, Reader] = {}
    for name, members in workers(pipeline).items():
        topics = tuple(topology.stage(it) for it in inputs_of(pipeline, members))
        if name in topology.repartitioned:
            found[f"{name}{KEYED}"] = Reader(name, members, topology.sources_of(name))
            topics = (topology.keyed(name),)
        found[name] = Reader(members[0], members, topics)
    stages = tuple(topology.stage(it) for it in pipeline.weighting.inputs)
    found[WEIGH] = Reader(WEIGH, (WEIGH,), stages)
    return found
