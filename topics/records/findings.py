"""What a monitor finds besides quality: drift, its daily figures, and weights. JSON Schemas of it.

Each record of `<pipeline>.monitor` says its `kind`: `quality` (see `topics.records.quality`),
`drift`, `drift-sizes`, `weights`. Readers pass over kinds and fields that they do not know.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class ShareGrowth(_Frozen):
    """A place of a field or signal that has grown: what falls there, and how much of it."""

    what: str
    share_before: float
    share_now: float


class DriftFinding(_Frozen):
    """One field or signal is not as its reference says, or is so again."""

    kind: Literal["drift"] = "drift"
    pipeline: str
    sentence: str
    """Which, since when, how much, and which decisions change."""
    since: str
    """From which hour of event time on, as well as counts say (RFC 3339)."""
    seen: str
    """Event time when it was seen (RFC 3339)."""
    what: Literal["distribution", "mean", "missing", "outside"]
    ended: bool
    """It is as ordinary again."""
    series: str
    """The field, the component whose signal it is, or `score`."""
    source: Literal["event", "signal"]
    rows: int
    """Of the window it was seen in."""
    psi: float
    """Population stability index."""
    limit: float
    """From where on the index is not ordinary."""
    jensen_shannon: float
    """Divergence in [0, 1]."""
    wasserstein: float | None
    """Distance in the field's unit; null for words."""
    mean_before: float | None
    mean_now: float | None
    odd_share: float | None
    """Of missing or outside: the share now, of the kinds that are about it."""
    odd_before: float | None
    grown: list[ShareGrowth]
    """The places that make up most of the index, the most first."""
    decisions_before: dict[str, float]
    """Share of each decision among rows in the places that have grown; empty where not known."""
    decisions_now: dict[str, float]
    all_before: dict[str, float]
    """The same among all rows."""
    all_now: dict[str, float]


class SeriesSize(_Frozen):
    """How far a field or signal is from its reference."""

    psi: float
    limit: float
    """From where on it is not ordinary."""


class DriftSizes(_Frozen):
    """How far all fields and signals are from their references, once a day of events."""

    kind: Literal["drift-sizes"] = "drift-sizes"
    pipeline: str
    at: str
    """The end of the window, event time (RFC 3339)."""
    series: dict[str, SeriesSize]
    learning: dict[str, int]
    """Those of which nothing is said yet, each with the days until it can be, at the earliest."""
    lacking: dict[str, str]
    """What has no reference, and why."""
    late_rows: int
    """Rows that came too late for their window."""


class QuarantineVerdict(_Frozen):
    """A stage that weighs nothing from now on, or weighs again."""

    stage: str
    reason: Literal["failed", "constant"] | None
    """null for one that is restored."""
    rows: int
    """On which it was judged."""
    words: str
    """For people."""


class OutcomeLosses(_Frozen):
    """Mean log losses on the outcomes so far, by weights."""

    decided: float
    """Those that decided."""
    learned: float
    trained: float


class WeightsFinding(_Frozen):
    """What weights are, would be, and which stages are in quarantine."""

    kind: Literal["weights"] = "weights"
    at_ms: int
    """Milliseconds since 1970."""
    learning: Literal["off", "shadow", "active"]
    quarantine: Literal["off", "shadow", "active"]
    version: int
    """Of the weights in service."""
    trained_version: int
    """Of the trained weights that these go on from."""
    in_service: dict[str, float]
    """Stage → weight."""
    trained: dict[str, float]
    learned: dict[str, float] | None
    """null where nothing learns."""
    outcomes: int
    """That were learned from."""
    log_loss: OutcomeLosses | None
    """null before the first outcome."""
    quarantined: dict[str, Literal["failed", "constant"]]
    """Stage → why it weighs nothing."""
    held: bool
    """They were rolled back by hand, and stay until somebody promotes."""
    thresholds: dict[str, float]
    """Decision → threshold that goes with the weights."""
    shares: dict[str, float]
    """Decision → its share with them."""
    verdicts: list[QuarantineVerdict]
    """New ones."""
