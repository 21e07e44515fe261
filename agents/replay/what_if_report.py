"""What a change would do, in figures: the report of a what-if."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from agents.replay.altered_decisions import NO_QUORUM, AlteredDecisions
from agents.replay.decision_columns import DecisionColumns
from models.arrays import Bools, Floats64
from topics.records import Source

WHAT_IF_SCHEMA = 1
"""Version of the report's form, raised as that of decisions is."""

BINS = 50
"""Of the histograms of scores, over [0, 1]."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Change(_Part):
    """What takes the place of what decisions name; None for what stays."""

    weights: int | None = None
    policy: dict[str, float] | None = None
    """Decision → threshold."""
    policy_version: int | None = None
    models: dict[str, str] = Field(default_factory=dict)
    """component@version → digest."""


class EventCounts(_Part):
    """The events of the range, by how they ended."""

    decided: int
    degraded: int
    """Of those decided, with a stage missing: it is missing again."""
    late: int
    """Of those decided, without a score: they stay as they are."""
    redriven: int
    """Of those decided, at a later attempt."""
    early: int
    """Of those decided, which did not wait for a source partition that was down: with what was
    known of the past then."""
    as_recorded: int
    """Of those decided, which keep the recorded signals though a model is another."""
    dead_letters: int
    """Not decided: they stay dead, whatever the change."""
    foreign: int
    """Records on the topic that are no decisions of the pipeline."""
    repeated: int = 0
    """Further decisions about events that have one: left out."""


class Example(_Part):
    """An event whose decision changes."""

    event_id: str
    source: Source
    score_before: float | None
    score_after: float | None
    reason_before: str | None = None
    """What made the score, see `anabranch explain`; None where it cannot be explained."""
    reason_after: str | None = None
    unexplained: str | None = None
    """Why there is no reason."""


class Flow(_Part):
    """Events that are decided so, and would be decided otherwise."""

    before: Annotated[str, Field(alias="from")]
    after: Annotated[str, Field(alias="to")]
    events: int
    share: float
    """Of all events that were decided."""
    examples: list[Example] = Field(default_factory=list)


class ScoreShift(_Part):
    """Scores after the change less those before, of events that have both."""

    events: int
    mean: float
    mean_absolute: float
    largest_absolute: float
    quantiles: dict[str, float]
    """"0.99" → the shift that so many are below."""
    before: list[int]
    """Events by score, in BINS bins over [0, 1]."""
    after: list[int]


class Taken(_Part):
    """Events that one decision is taken on."""

    events: int
    positives: int


class Quality(_Part):
    """What decisions are worth, on events whose outcome is known."""

    decisions: dict[str, Taken]
    precision: float | None
    """Of the events that got another decision than that of the lowest scores, the share that came
    true; None where there are none."""
    recall: float | None
    """Of the events that came true, the share that got such a decision."""
    auc: float | None
    average_precision: float | None
    """Of the scores; None where outcomes are all the same, and without the extra `train`."""
    cost: float | None
    """Mean cost of an event; None where the pipeline file states no costs."""
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """Figure → between which two numbers it is with 95 % confidence."""


class OutcomeFigures(_Part):
    """Before and after, on events whose outcome is known; where some were explored, by weight."""

    known: int
    positives: int
    ambiguous: int
    """Events with an outcome whose id another event has too: left out."""
    before: Quality
    after: Quality
    cost: float | None
    """Mean cost after the change less that before it: what an event costs more."""
    cost_interval: tuple[float, float] | None = None
    """Of that, with 95 % confidence."""
    explored: int = 0
    """Events of those known that were explored: each counts 1 / propensity times."""
    stands_for: float = 0.0
    """So many events the known outcomes stand for, by these weights."""
    not_weighed: int = 0
    """Events with an outcome that might have been explored and were not: left out, as those that
    were stand for them."""


class SegmentFigures(_Part):
    """Events of one segment."""

    segment: str
    events: int
    changed: int
    share: float
    mean_shift: float | None
    outcomes: OutcomeFigures | None


class WhatIfReport(_Part):
    """What a change would do to the events of a range."""

    schema_version: Annotated[int, Field(alias="schema")] = WHAT_IF_SCHEMA
    pipeline: str
    change: Change
    offsets: dict[int, tuple[int, int]]
    """Partition → from which source offset on, and before which."""
    events: EventCounts
    changed: int
    changed_share: float
    decisions: list[str]
    """All that there are, from the lowest scores on."""
    flows: list[Flow]
    """Events by decision before and after; those that change first, the most first."""
    scores: ScoreShift | None
    outcomes: OutcomeFigures | None
    """None where no outcome is known."""
    segments: dict[str, list[SegmentFigures]] = Field(default_factory=dict)
    """Event field → its segments."""
    notes: list[str] = Field(default_factory=list)
    """What the figures leave open."""

    @property
    def no_quorum(self) -> str:
        """What `to` says of an event that would have no decision."""
        return NO_QUORUM

    def document(self) -> bytes:
        """As JSON; equal reports give equal bytes."""
        return self.model_dump_json(by_alias=True).encode()

    @property
    def digest(self) -> str:
        """Of the document."""
        return f"sha256:{sha256(self.document()).hexdigest()}"


def counts_of(
    recorded: DecisionColumns,
    *,
    as_recorded: int,
    dead_letters: int,
    foreign: int,
    repeated: int = 0,
) -> EventCounts:
    """The events of a range, by how they ended."""
    return EventCounts(
        decided=len(recorded), degraded=int((~recorded.present.all(axis=1) & ~recorded.late).sum()),
        late=int(recorded.late.sum()), redriven=int(recorded.redriven.sum()),
        early=int(recorded.early.sum()), as_recorded=as_recorded, dead_letters=dead_letters,
        foreign=foreign, repeated=repeated,
    )  # fmt: skip


def unknowable(
    altered: AlteredDecisions, explored: Bools, known: Bools, propensity: Floats64
) -> int:
    """How many of N events no outcome stands for, though others of their decision are explored."""
    names = np.unique(altered.before[explored])
    return int((np.isin(altered.before, names) & (propensity == 1) & ~known).sum())


def notes_of(
    report: WhatIfReport, known: Bools, altered: AlteredDecisions, explored: Bools,
    propensity: Floats64,
) -> list[str]:  # fmt: skip
    """What the figures leave open, in sentences.

    Outcomes are *known* of some events (N,), some were *explored* (N,), and each was decided so
    with a *propensity* (N,).
    """
    events = report.events
    notes = [*_outcome_notes(report, known, altered, explored, propensity)]
    if events.repeated:
        notes.append(f"{events.repeated:,} decisions are about events that have one: left out")
    kept = {
        "decided by lateness": events.late, "of recorded signals": events.as_recorded,
        "dead letters": events.dead_letters,
    }  # fmt: skip
    if said := [f"{count:,} {what}" for what, count in kept.items() if count]:
        notes.append(f"as recorded stay {', '.join(said)}")
    dying = sum(flow.events for flow in report.flows if flow.after == NO_QUORUM)
    if dying:
        notes.append(f"{dying:,} would be dead letters: what they have of stages is no quorum")
    return notes


def _outcome_notes(
    report: WhatIfReport, known: Bools, altered: AlteredDecisions, explored: Bools,
    propensity: Floats64,
) -> Iterator[str]:  # fmt: skip
    events, figures = report.events, report.outcomes
    if figures is None:
        yield "no outcome of these events is known: nothing can be said of cost or quality"
        return
    yield (
        f"outcomes are known of {figures.known:,} of {events.decided:,} events: cost and quality "
        "are of these alone"
    )
    if figures.explored:
        yield (
            f"{figures.explored:,} of them were explored and count 1 / propensity each: all "
            f"together stand for {figures.stands_for:,.0f} events; intervals are 95 %"
        )
    if figures.not_weighed:
        yield (
            f"{figures.not_weighed:,} more have an outcome, might have been explored and were not: "
            "those that were stand for them"
        )
    labelled = np.bincount(altered.before[known], minlength=len(altered.names))
    without = [
        name
        for at, name in enumerate(altered.names)
        if not labelled[at] and (altered.before == at).any()
    ]
    if without:
        hint = "" if explored.any() else "; policy: explore: would let some become known"
        yield (
            f"none is known of what was decided {', '.join(without)}: what a change does to those "
            f"cannot be judged{hint}"
        )
    if beyond := unknowable(altered, explored, known, propensity):
        yield (
            f"{beyond:,} events were decided like those that were explored, but not within "
            "explore: up_to:, or while nothing was explored: no outcome stands for them"
        )
    if figures.cost is None:
        yield "cost is unknown: policy: costs: states none, or not of every decision"
    if figures.ambiguous:
        yield (
            f"{figures.ambiguous:,} events have an outcome and an id that another event has too: "
            "they count as without"
        )
