"""What a report says, as figures: what `anabranch report --json` prints."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True)


class PeriodFigures(_Figures):
    """One bin of time."""

    start: str
    """RFC 3339."""
    decided: int
    decisions: dict[str, int]
    dead_letters: int
    degraded: int
    late: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    score_p10: float | None
    score_p50: float | None
    score_p90: float | None
    weights: dict[str, float]
    """Stage → mean of the weight that it had."""


class VersionFigures(_Figures):
    """A version that decided."""

    version: str
    decisions: int
    first: str
    last: str
    """The bins of its first and last decision begin then."""


class LetterFigures(_Figures):
    """Dead letters of one component and class of error."""

    component: str
    error: str
    letters: int
    example: str
    """What one of them says."""


class ChangeFigures(_Figures):
    """Something that was changed: an entry of the audit trail, or a turn of a rollout."""

    at: str
    action: str
    what: str
    version: str
    by: str
    reason: str


class DriftFigures(_Figures):
    """A finding of drift."""

    seen: str
    series: str
    what: str
    ended: bool
    sentence: str


class DriftDay(_Figures):
    """How far everything was from its reference on one day."""

    at: str
    psi: dict[str, float]
    limits: dict[str, float]
    learning: list[str]
    lacking: dict[str, str]


class QualityFigure(_Figures):
    """One figure, and its 95 % interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


class QualityWindow(_Figures):
    """How good decisions about one window of event time were, of one subject."""

    since: str
    until: str
    state: str
    subject: str
    rows: int
    positives: int
    figures: dict[str, QualityFigure]
    outside: list[str]


class RenewalStepFigures(_Figures):
    """What a step of a renewal has come to; times are those of events."""

    at: str
    step: str
    state: str
    reason: str


class RenewalFigures(_Figures):
    """A renewal of models, from what began it to its verdict."""

    number: int
    trigger: str
    reason: str
    begun: str
    steps: list[RenewalStepFigures]
    ended: str | None
    """None while it runs, and then there is no verdict."""
    verdict: str
    why: str


class PipelineFigures(_Figures):
    """All of a report."""

    pipeline: str
    description: str
    since: str | None
    """As it was asked for; None for all that there is."""
    first: str | None
    last: str | None
    """When the first and the last decision of the report were made."""
    bin_s: float
    decided: int
    decisions: dict[str, int]
    redriven: int
    """Decisions of events that had been dead letters."""
    degraded: int
    late: int
    dead_letters: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    periods: list[PeriodFigures]
    versions: list[VersionFigures]
    letters: list[LetterFigures]
    changes: list[ChangeFigures]
    renewals: list[RenewalFigures]
    explored: dict[str, int]
    """By the decision that was taken instead."""
    drift: list[DriftFigures]
    drift_days: list[DriftDay]
    quality: list[QualityWindow]
    unknown: list[str]
    """What figures of quality cannot say."""
    cost_by_outcome: dict[str, dict[str, float]]
    """As the pipeline file states it: decision → of a positive and of a negative event."""
    not_read: list[str]
    """What is not in here, and why."""
