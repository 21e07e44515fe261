"""The way of one event as its records tell it: what `anabranch trace --json` prints.

Times are those of the records: when whoever wrote one made it, by their own clock. A component
says nowhere when it began with a row, so a hop has two times: how long its first input waited for
its last (`in_join_ms`), and from the last one to its own record (`queued_and_computed_ms`: waiting
to be read, computing and writing, which nothing tells apart).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from topics.records import Missing, Source

TRACE_SCHEMA = 1
"""Version of the form, raised as that of decisions is."""

State = Literal["decided", "dead", "in flight", "redriven"]
"""in flight: no end yet; redriven: it was dead, and is on its way again."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Place(_Frozen):
    """Where a record stands, and when it was written."""

    topic: str
    partition: int
    offset: int
    written_at: str

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class SourceRecord(_Frozen):
    """The event as it was published."""

    record: Place
    clock: Literal["producer", "broker"]
    """Whose clock says when."""
    key: str | None
    bytes: int
    """Of its value."""


class HopFailure(_Frozen):
    """Why a component has no output for the event."""

    component: str
    error: str
    reason: str


class Model(_Frozen):
    """The model that has made a row."""

    model: str
    digest: str
    variant: str
    challenger: bool
    """It was in a canary then, not the champion."""


class Hop(_Frozen):
    """What one component has said of the event."""

    component: str
    inputs: list[str]
    """What it reads: other hops, or `events`, the source record."""
    after: str | None
    """The input that came last; None where not all are known."""
    record: Place | None
    """None where no record is there: not yet, or no more."""
    rows: int | None = None
    """Events in the same record."""
    covers: tuple[int, int] | None = None
    """The first and last source offset that the record answers for."""
    lane: int | None = None
    """Of a repartitioned component: the partition of the event's key."""
    early: bool = False
    """It did not wait for a source that was down: what it knows of the past may be incomplete."""
    reused: bool = False
    """Of a redriven event: made at an earlier attempt."""
    in_join_ms: float | None = None
    queued_and_computed_ms: float | None = None
    model: Model | None = None
    signal: float | None = None
    """None where it is absent."""
    failure: HopFailure | None = None
    weight: float | None = None
    """That of the decision; None where the stage is not weighed."""
    contribution: float | None = None
    missing: Missing | None = None
    """Why the decision was made without it."""


class RedriveStep(_Frozen):
    """A record of the redrive topic that the event travelled in."""

    record: Place
    events: int
    """In the same record."""
    next: str | None
    """The component that it is addressed to; None where it says how the attempt ended."""
    end: Literal["decision", "dead-letter"] | None
    refused: str | None
    """Why it went to the weighting agent to be ended there."""


class DecisionEnd(_Frozen):
    """The event was decided."""

    kind: Literal["decision"] = "decision"
    record: Place
    after: str | None
    in_join_ms: float | None
    queued_and_computed_ms: float | None
    decision: str
    decided_by: str
    instead_of: str | None = None
    """What the policy says, where the decision was explored."""
    propensity: float = 1.0
    score: float | None
    degraded: bool
    missing: dict[str, Missing]
    weights: int
    policy: str
    latency_ms: float


class LetterEnd(_Frozen):
    """The attempt ended in a dead letter."""

    kind: Literal["dead-letter"] = "dead-letter"
    record: Place
    stage: str
    error: str
    reason: str


class Attempt(_Frozen):
    """One attempt at the event: 1, and one more each time it was redriven."""

    attempt: int
    hops: list[Hop]
    """In the order of the flow."""
    steps: list[RedriveStep]
    """On the redrive topic, in order; none of the first attempt."""
    end: Annotated[DecisionEnd | LetterEnd, Field(discriminator="kind")] | None
    """None: not there yet, or no more."""


class EventTrace(_Frozen):
    """The way of an event, as far as topics still hold it."""

    schema_version: Annotated[int, Field(serialization_alias="schema")] = TRACE_SCHEMA
    pipeline: str
    event_id: str | None
    """None where nothing that is left says it."""
    source: Source
    origin: Source | None
    """Where the producer wrote it, if the source record is a copy."""
    event_time: str | None
    published: SourceRecord | None
    """None where it is gone by retention."""
    state: State
    waits_for: list[str]
    """In flight: components that have all that they read, and have not answered."""
    attempts: list[Attempt]
    not_known: list[str]
    """What the topics do not tell, a sentence each."""
