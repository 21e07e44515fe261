"""`quality:` of a pipeline file: in which windows decisions are held against outcomes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from topics.pipeline.fields import Duration, Strict

if TYPE_CHECKING:
    from topics.pipeline.schema import Pipeline

SEGMENT_TYPES = ("string", "boolean", "integer")


class Quality(Strict):
    """How a monitor says how good decisions are, once their outcomes are known."""

    window: Annotated[
        Duration,
        Field(
            description="Decisions are judged together whose events lie in one window of event "
            "time, each so long; once the youngest of them is older than outcomes: delay."
        ),
    ] = "1d"
    segments: Annotated[
        list[str],
        Field(
            max_length=8,
            description="Event fields (strings, booleans, integers) by whose values the composed "
            "score is judged apart, too."
        ),
    ] = Field(default_factory=list)  # fmt: skip


def wrong_segments(pipeline: Pipeline) -> Iterator[tuple[int, str]]:
    """Which of `quality: segments` cannot be, and why."""
    listed, fields = pipeline.quality.segments, pipeline.event.fields
    for place, name in enumerate(listed):
        if name not in fields:
            yield place, f"unknown event field {name!r}; known: {', '.join(sorted(fields))}"
        elif fields[name].type not in SEGMENT_TYPES:
            yield place, f"{name!r} is a {fields[name].type}: give {', '.join(SEGMENT_TYPES)}"
        elif name in listed[:place]:
            yield place, f"{name!r} is listed twice"
