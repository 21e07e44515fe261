"""What only the whole pipeline can tell: names, cycles, dead ends, fields that do not exist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from graphlib import CycleError
from pathlib import Path
from typing import NamedTuple, get_args

from topics.pipeline.component_kinds import kind_of
from topics.pipeline.event_schema import EventField
from topics.pipeline.explain_settings import wrong_decisions
from topics.pipeline.explanation_groups import wrong_members
from topics.pipeline.fields import (
    EVENTS,
    NEVER_MISSING,
    OUTCOME,
    OUTCOME_KNOWN_AT,
    OUTCOME_SOURCE,
    OUTCOMES,
    WINDOWED,
    Feature,
    FieldType,
    duration_ms,
)
from topics.pipeline.quality_settings import wrong_segments
from topics.pipeline.readers import fused_members, in_order, inputs_of, worker_name
from topics.pipeline.reason_texts import wrong_texts
from topics.pipeline.renewal_settings import wrong_renewals
from topics.pipeline.schema import ComponentSpec, Pipeline
from topics.pipeline.topology import RESERVED

Location = tuple[str | int, ...]


class Finding(NamedTuple):
    """A mistake, and the field that it is in."""

    location: Location
    message: str


_NUMBERS: tuple[FieldType, ...] = ("integer", "number", "boolean")
_TYPES_OF: dict[str, tuple[FieldType, ...]] = {
    "identity": _NUMBERS,
    "log1p": _NUMBERS,
    "hour": ("timestamp",),
    "day_of_week": ("timestamp",),
    "month": ("timestamp",),
    "night": ("timestamp",),
    "weekend": ("timestamp",),
    "one_hot": ("string",),
    **dict.fromkeys(("sum", "mean", "min", "max", "std"), _NUMBERS),
    "distinct": (*_NUMBERS, "string", "timestamp"),
    "ordinal": ("string",),
    "missing": (*_NUMBERS, "string", "timestamp"),
}
_MORE_THAN_FIELDS = (EVENTS, OUTCOMES)


def check_graph(pipeline: Pipeline, folder: Path | None) -> list[Finding]:
    """Every mistake in how the pipeline's parts refer to each other and to files in *folder*.

    Without *folder* files are not looked for.
    """
    return [
        *_check_names(pipeline),
        *_check_inputs(pipeline),
        *_check_cycles(pipeline),
        *_check_reach(pipeline),
        *_check_fallback(pipeline),
        *_check_explore(pipeline),
        *_check_partitions(pipeline),
        *_check_calls(pipeline),
        *_check_features(pipeline),
        *(_check_models(pipeline, folder) if folder is not None else ()),
        *_check_data(pipeline),
        *check_fused(pipeline),
        *_check_explain(pipeline),
        *_check_outcomes(pipeline),
        *_check_quality(pipeline),
        *(Finding(("renew", *place), message) for place, message in wrong_renewals(pipeline)),
    ]


def _check_names(pipeline: Pipeline) -> Iterator[Finding]:
    counts = Counter(component.name for component in pipeline.components)
    for index, component in enumerate(pipeline.components):
        at = ("components", index, "name")
        if counts[component.name] > 1:
            yield Finding(at, f"two components are called {component.name!r}")
        if component.name in RESERVED:
            yield Finding(at, f"{component.name!r} is the name of another topic or agent")


def _check_inputs(pipeline: Pipeline) -> Iterator[Finding]:
    known = {component.name for component in pipeline.components}
    for index, component in enumerate(pipeline.components):
        at = ("components", index, "from")
        yield from _check_list(at, component.inputs, known | {EVENTS})
        if EVENTS in component.inputs and len(component.inputs) > 1:
            yield Finding(at, "a component reads either events or other components")
        if component.kind is None:
            continue
        if kind_of(component).reads_events:
            if component.inputs != [EVENTS]:
                yield Finding(at, f"{component.kind} reads events: from: [events]")
        elif EVENTS in component.inputs:
            yield Finding(at, f"{component.kind} reads components, for example features")
    yield from _check_list(("weighting", "from"), pipeline.weighting.inputs, known)


def _check_list(at: Location, inputs: list[str], known: set[str]) -> Iterator[Finding]:
    for place, name in enumerate(inputs):
        if name not in known:
            yield Finding(
                (*at, place), f"unknown component {name!r}; known: {', '.join(sorted(known))}"
            )
        elif name in inputs[:place]:
            yield Finding((*at, place), f"{name!r} is listed twice")


def _check_cycles(pipeline: Pipeline) -> Iterator[Finding]:
    try:
        in_order(pipeline)
    except CycleError as exc:
        around = exc.args[1]
        index = next(i for i, c in enumerate(pipeline.components) if c.name in around)
        yield Finding(("components", index, "from"), f"a cycle: {' → '.join(reversed(around))}")


def _check_reach(pipeline: Pipeline) -> Iterator[Finding]:
    fed = {EVENTS}
    for _ in pipeline.components:
        fed |= {c.name for c in pipeline.components if fed.intersection(c.inputs)}
    read = {name for component in pipeline.components for name in component.inputs}
    read |= set(pipeline.weighting.inputs)
    for index, component in enumerate(pipeline.components):
        at = ("components", index)
        if component.name not in fed:
            yield Finding((*at, "from"), f"no events ever reach {component.name!r}")
        if component.name not in read:
            yield Finding(
                (*at, "name"),
                f"a dead end: nothing reads {component.name!r}; "
                "add it to weighting.from, or to a component's from",
            )


def _check_fallback(pipeline: Pipeline) -> Iterator[Finding]:
    fallback = pipeline.weighting.fallback
    known = [pipeline.policy.otherwise, *pipeline.policy.thresholds]
    if fallback is not None and fallback not in known:
        at = ("weighting", "late", "fallback")
        yield Finding(at, f"{fallback!r} is none of the policy's decisions: {', '.join(known)}")


def _check_explore(pipeline: Pipeline) -> Iterator[Finding]:
    """What the weighting agent is to know of events are numbers, which travel with the rows."""
    for name in pipeline.policy.bounded_fields:
        at = ("policy", "explore", "up_to", name)
        of = pipeline.event.fields.get(name)
        if of is None:
            yield Finding(at, f"{name!r} is not one of the event's fields")
        elif of.type not in ("number", "integer"):
            yield Finding(at, f"{name!r} is a {of.type}: only a number has a largest value")


def _check_partitions(pipeline: Pipeline) -> Iterator[Finding]:
    for index, component in enumerate(pipeline.components):
        if component.partitions not in (None, pipeline.partitions):
            yield Finding(
                ("components", index, "partitions"),
                f"{component.partitions} is not the pipeline's {pipeline.partitions}: rows keep "
                "their source's partition number, so all topics need the same count",
            )


def _check_features(pipeline: Pipeline) -> Iterator[Finding]:
    for index, component in enumerate(pipeline.components):
        counts = Counter(feature.name for feature in component.features or [])
        repartitioned = pipeline.is_repartitioned(component.name)
        yield from _check_key(pipeline, component, index)
        for place, feature in enumerate(component.features or []):
            at = ("components", index, "features", place)
            if counts[feature.name] > 1:
                yield Finding((*at, "name"), f"two features are called {feature.name!r}")
            if repartitioned and feature.over is None:
                why = " (keys: rekey)" if pipeline.event.keys == "rekey" else ""
                yield Finding(
                    (*at, "apply"),
                    f"{component.name} is repartitioned{why}, so it has windowed features only; "
                    "put this one into an extract_features of its own",
                )
            if feature.over is not None and feature.of in _MORE_THAN_FIELDS:
                continue
            field = pipeline.event.fields.get(feature.of)
            if field is None:
                known = ", ".join(pipeline.event.fields)
                yield Finding((*at, "of"), f"no event field {feature.of!r}; known: {known}")
            elif wrong := _wrong_type(feature, field):
                yield Finding((*at, "apply"), wrong)
            elif feature.of in pipeline.data.generated:
                yield Finding((*at, "of"), f"{feature.of!r} is generated: it says nothing to learn")
            elif field.optional and feature.missing is None and not _bears_missing(feature):
                yield Finding(
                    (*at, "missing"),
                    f"{feature.of!r} is optional: give the feature's value for events without it, "
                    "for example missing: 0",
                )


def _check_key(pipeline: Pipeline, component: ComponentSpec, index: int) -> Iterator[Finding]:
    if component.key is None:
        return
    field = pipeline.event.fields.get(component.key)
    if field is None:
        known = ", ".join(pipeline.event.fields)
        what = f"no event field {component.key!r}; known: {known}"
    elif field.type not in ("string", "integer") or field.optional:
        what = f"{component.key!r} must be a string or an integer field, and not optional"
    else:
        return
    yield Finding(("components", index, "key"), what)


def _bears_missing(feature: Feature) -> bool:
    return feature.apply in NEVER_MISSING or feature.apply in WINDOWED


def _wrong_type(feature: Feature, field: EventField) -> str | None:
    wanted = _TYPES_OF[feature.apply]
    if field.type in wanted:
        return None
    return f"{feature.apply} needs a {' or '.join(wanted)}; {feature.of!r} is a {field.type}"


def _check_calls(pipeline: Pipeline) -> Iterator[Finding]:
    """A stage that waits for another system answers before it is given up itself."""
    weighting = pipeline.weighting
    bounds_ms = {"weighting.stall_timeout_s": weighting.stall_timeout_s * 1000}
    if weighting.late != "wait":
        bounds_ms["weighting.deadline_ms"] = weighting.deadline_ms
    for index, component in enumerate(pipeline.components):
        if component.calls is None:
            continue
        for place, name in enumerate(component.calls.cache_by or ()):
            if name not in pipeline.event.fields:
                at: Location = ("components", index, "calls", "cache_by", place)
                yield Finding(at, f"no event field {name!r}")
        for name, bound_ms in bounds_ms.items():
            if duration_ms(component.calls.deadline) >= bound_ms:
                message = f"{component.calls.deadline} is not less than {name}, {bound_ms:g} ms"
                yield Finding(("components", index, "calls", "deadline"), message)


def _check_models(pipeline: Pipeline, folder: Path) -> Iterator[Finding]:
    for index, component in enumerate(pipeline.components):
        if missing := _missing_file(component, folder):
            yield Finding(("components", index, "model", "path"), f"no such file: {missing}")


def _missing_file(component: ComponentSpec, folder: Path) -> Path | None:
    if component.model is None or component.model.path is None:
        return None
    path = folder / component.model.path
    return None if path.is_file() else path


def _check_data(pipeline: Pipeline) -> Iterator[Finding]:
    data = pipeline.data
    for column, field in data.columns.items():
        if field not in pipeline.event.fields:
            yield Finding(("data", "columns", column), f"no event field {field!r}")
    typed: list[tuple[Location, str | None, tuple[FieldType, ...]]] = [
        (("data", "row_number"), data.row_number, ("string", "integer")),
        (("data", "published_at"), data.published_at, ("timestamp",)),
        *((("data", "time_formats", name), name, ("timestamp",)) for name in data.time_formats),
        *(
            (("data", "number_formats", name), name, ("number", "integer"))
            for name in data.number_formats
        ),
        *(
            (("data", "missing_values_of", name), name, get_args(FieldType))
            for name in data.missing_values_of
        ),
    ]
    for at, name, types in typed:
        if name is None:
            continue
        if name not in pipeline.event.fields:
            yield Finding(at, f"no event field {name!r}")
        elif pipeline.event.fields[name].type not in types:
            yield Finding(at, f"{name!r} must be a {' or '.join(types)} field")


def _check_explain(pipeline: Pipeline) -> Iterator[Finding]:
    for wrong in wrong_members(pipeline):
        yield Finding(("explain", "groups", wrong.group, wrong.place), wrong.message)
    for place, message in wrong_decisions(pipeline):
        yield Finding(("explain", *place), message)
    for place, message in wrong_texts(pipeline):
        yield Finding(("explain", "reasons", *place), message)


def _check_outcomes(pipeline: Pipeline) -> Iterator[Finding]:
    """An outcome repeats some fields of its event, beside its own."""
    event = pipeline.event
    keys = [pipeline.entity(spec.name) for spec in pipeline.components if spec.windowed]
    for name in dict.fromkeys((event.id, event.time, event.key, *keys)):
        if name in (OUTCOME, OUTCOME_SOURCE, OUTCOME_KNOWN_AT):
            message = f"outcomes repeat this field, and have another called {name!r}: rename it"
            yield Finding(("event", "fields", name), message)


def _check_quality(pipeline: Pipeline) -> Iterator[Finding]:
    for place, message in wrong_segments(pipeline):
        yield Finding(("quality", "segments", place), message)


# -- what components one worker can run, one after the other


def check_fused(pipeline: Pipeline) -> Iterator[Finding]:
    """Every mistake in what the pipeline fuses; none while its components are in a cycle."""
    try:
        order = in_order(pipeline)
    except CycleError:
        return
    listed = list(_check_fused_names(pipeline))
    yield from listed
    if listed:
        return
    taken = {*order, *RESERVED}
    for place, group in enumerate(pipeline.fuse):
        yield from _check_fused_inputs(pipeline, ("fuse", place), group)
        name = worker_name(fused_members(pipeline, group))
        if name in taken:
            why = f"their worker would be called {name!r}, which is the name of another"
            yield Finding(("fuse", place), why)
        taken.add(name)


def _check_fused_names(pipeline: Pipeline) -> Iterator[Finding]:
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


def _check_fused_inputs(
    pipeline: Pipeline, at: Location, group: Sequence[str]
) -> Iterator[Finding]:
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
    inputs = {component.name: component.inputs for component in pipeline.components}
    behind: set[str] = set()
    for name in in_order(pipeline):
        if name not in group and not {*group, *behind}.isdisjoint(inputs[name]):
            behind.add(name)
    return next((read for name in group for read in inputs[name] if read in behind), None)
