"""The order in which components follow each other."""

from __future__ import annotations

from graphlib import TopologicalSorter

from topics.pipeline.fields import EVENTS
from topics.pipeline.schema import Pipeline


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
