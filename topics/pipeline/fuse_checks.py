"""What components one worker can run, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import CycleError

from topics.pipeline.fields import EVENTS
from topics.pipeline.finding import Finding, Location
from topics.pipeline.flow import in_order
from topics.pipeline.order import fused_members, inputs_of, worker_name
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import RESERVED


def check_fused(pipeline: Pipeline) -> Iterator[Finding]:
    """Every mistake in what the pipeline fuses; none while its components are in a cycle."""
    try:
        order = in_order(pipeline)
    except CycleError:
        return
    listed = list(_check_list(pipeline))
    yield from listed
    if listed:
        return
    taken = {*order, *RESERVED}
    for place, group in enumerate(pipeline.fuse):
        yield from _check_inputs(pipeline, ("fuse", place), group)
        name = worker_name(fused_members(pipeline, group))
        if name in taken:
            why = f"their worker would be called {name!r}, which is the name of another"
            yield Finding(("fuse", place), why)
        taken.add(name)


def _check_list(pipeline: Pipeline) -> Iterator[Finding]:
    known = {component.name for component in pipeline.components}
    seen: set[str] = set()
    for place, group in enumerate(pipeline.fuse):
        at = ("fuse", place)
        for name in group:
            if name not in known:
                yield Finding(at, f"unknown component {name!r}; known: {', '.join(sorted(known))}")
            elif name in seen:
                yield Finding(at, f"{name!r} is listed twice")
            elif pipeline.is_repartitioned(name):
                why = " (keys: rekey)" if pipeline.event.keys == "rekey" else ""
                yield Finding(at, f"{name!r} is repartitioned{why}: it needs a worker of its own")
            seen.add(name)


def _check_inputs(pipeline: Pipeline, at: Location, group: Sequence[str]) -> Iterator[Finding]:
    of_events = [name for name in group if EVENTS in pipeline.component(name).inputs]
    outside = [name for name in inputs_of(pipeline, group) if name != EVENTS]
    if len(of_events) > 1:
        yield Finding(at, f"{' and '.join(of_events)} read events: only one of a worker's may")
    if of_events and outside:
        why = f"{of_events[0]} reads events, so the others may not read {outside[0]}"
        yield Finding(at, why)
    if between := _between(pipeline, group):
        why = f"{between} reads what one of them makes, and another reads {between}: list it too"
        yield Finding(at, why)


def _between(pipeline: Pipeline, group: Sequence[str]) -> str | None:
    """A component that is not of *group*, but on a way from one of it to another."""
    inputs = {it.name: it.inputs for it in pipeline.components}
    behind: set[str] = set()
    for name in in_order(pipeline):
        if name not in group and not {*group, *behind}.isdisjoint(inputs[name]):
            behind.add(name)
    return next((it for name in group for it in inputs[name] if it in behind), None)
