"""How good decisions were in a window of event time: a finding of the monitor, kind `quality`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

QUALITY = "quality"
COMPOSED = "composed"
"""The subject that the composed score is."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Interval(_Frozen):
    """A figure, and the bounds of its 95 % interval."""

    value: float
    low: float | None = None
    """None where too few keys have a positive for an interval to mean anything."""
    high: float | None = None


class SubjectQuality(_Frozen):
    """How good one thing was: the composed score, a component's signal, a segment."""

    subject: str
    """`composed`, the name of a component, or FIELD=VALUE: the composed score of those events."""
    rows: int
    """Decisions whose outcome is known and that have its score."""
    positives: int
    figures: dict[str, Interval]
    """auc, average_precision, brier, calibration_error, cost (of an event), and of each threshold
    precision.DECISION and recall.DECISION."""
    models: list[str] = []
    """component@version of what gave the signals."""
    promised: dict[str, float] = {}
    """What the card of the model, or of the weights, has of held-out rows."""
    outside: list[str] = []
    """Figures whose whole interval is worse than what was promised."""
    estimated: dict[str, Interval] = {}
    """What was estimated before outcomes were there."""
    estimate_error: dict[str, float] = {}
    """Estimate less figure."""


class DecisionCoverage(_Frozen):
    """Of how many decisions of a kind it is known what came true."""

    decisions: int
    known: int
    explored: int = 0
    """Of those, taken by exploration: they stand for others, by their propensity."""


class QualityFinding(_Frozen):
    """How good decisions about the events of one window were, or are estimated to be."""

    kind: Literal["quality"] = "quality"
    pipeline: str
    since: str
    """The window of event time, RFC 3339: from here on."""
    until: str
    """And before this."""
    state: Literal["estimated", "matured"]
    """estimated: before outcomes are there. matured: all events are older than outcomes take."""
    revision: Annotated[int, Field(ge=1)]
    """Which version of the figures of this window; a later one holds."""
    decisions: int
    known: int
    """Decisions whose outcome is known."""
    coverage: dict[str, DecisionCoverage]
    """By what was decided."""
    unknown: list[str]
    """What these figures cannot say, in sentences."""
    subjects: list[SubjectQuality]
    method: str
    """How intervals and estimates were made."""
