"""Who reads a pipeline: the order of its components, its workers, and what each of them reads.

There is a worker for each component, one for those that the pipeline fuses, and the weighting
agent's. A worker of several components has a name, and so a consumer group, of its own. Where it
starts for the first time it therefore reads its inputs from the beginning, and drops what its
components have written already: they may have come to different places while each had a worker to
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

from topics.pipeline.fields import EVENTS
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import EXPLAINER, WEIGH, Topology

KEYED = ".keyed"
"""How the name of what deals events out to a component ends."""


def in_order(pipeline: Pipeline) -> list[str]:
    """Component names, each after all that it reads. Raises graphlib.CycleError."""
    return [name for names in in_generations(pipeline) for name in names]


def in_generations(pipeline: Pipeline) -> list[list[str]]:
    """Component names in groups: what one reads is in the groups before its own.

    Raises graphlib.CycleError.
    """
    graph = {c.name: [name for name in c.inputs if name != EVENTS] for c in pipeline.components}
    sorter, generations = TopologicalSorter(graph), []
    sorter.prepare()
    while sorter.is_active():
        names = sorter.get_ready()
        generations.append([name for name in names if name in graph])
        sorter.done(*names)
    return generations


def workers(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    """Each worker's name → the components that it runs, in the order of the flow.

    In the order of the pipeline file; a fused worker is where the first of its components is. The
    weighting agent, which has a worker too, is not among them.
    """
    fused = {name: fused_members(pipeline, group) for group in pipeline.fuse for name in group}
    members = dict.fromkeys(fused.get(spec.name, (spec.name,)) for spec in pipeline.components)
    return {worker_name(names): names for names in members}


def fused_members(pipeline: Pipeline, group: Sequence[str]) -> tuple[str, ...]:
    """The components of *group* in the order of the flow."""
    return tuple(sorted(group, key=in_order(pipeline).index))


def worker_name(components: Sequence[str]) -> str:
    """What the worker of *components* is called."""
    return "-".join(components)


def inputs_of(pipeline: Pipeline, components: Sequence[str]) -> list[str]:
    """What a worker with *components* reads: what they read and none of them makes."""
    read = (name for component in components for name in pipeline.component(component).inputs)
    return [name for name in dict.fromkeys(read) if name not in components]


class Reader(NamedTuple):
    """A worker with a consumer group of its own."""

    component: str
    """What `anabranch run --component` is told to have it run."""
    members: tuple[str, ...]
    """The components that it runs; the weighting agent and the explainer by their names."""
    topics: tuple[str, ...]
    """What its rows come from. It also reads the redrive topic, and may read the sources."""


def readers(pipeline: Pipeline) -> dict[str, Reader]:
    """Each worker's name → what it is, in the order of the flow.

    What deals events out to component x is x.keyed: x's process runs it too. Last is the explainer,
    where decisions are explained as they come.
    """
    topology = Topology.of(pipeline)
    all_readers: dict[str, Reader] = {}
    for name, members in workers(pipeline).items():
        topics = tuple(topology.stage(name) for name in inputs_of(pipeline, members))
        if name in topology.repartitioned:
            all_readers[f"{name}{KEYED}"] = Reader(name, members, topology.sources_of(name))
            topics = (topology.keyed(name),)
        all_readers[name] = Reader(members[0], members, topics)
    stages = tuple(topology.stage(name) for name in pipeline.weighting.inputs)
    all_readers[WEIGH] = Reader(WEIGH, (WEIGH,), stages)
    if topology.explained:
        all_readers[EXPLAINER] = Reader(EXPLAINER, (EXPLAINER,), (topology.decisions,))
    return all_readers
