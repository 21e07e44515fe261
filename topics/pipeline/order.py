"""Which workers a pipeline has: one for each component, and one for those that it fuses.

A worker of several components has a name, and so a consumer group, of its own. Where it starts
for the first time it therefore reads its inputs from the beginning, and drops what its components
have written already: they may have come to different places while each had a worker to itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from topics.pipeline.flow import in_order
from topics.pipeline.schema import Pipeline


def workers(pipeline: Pipeline) -> dict[str, tuple[str, ...]]:
    """Each worker's name → the components that it runs, in the order of the flow.

    In the order of the pipeline file; a fused worker is where the first of its components is. The
    weighting agent, which has a worker too, is not among them.
    """
    fused = {name: fused_members(pipeline, group) for group in pipeline.fuse for name in group}
    members = dict.fromkeys(fused.get(it.name, (it.name,)) for it in pipeline.components)
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
