"""What was found of one series, and the sentence that says it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["distribution", "mean", "missing", "outside"]


class Growth(BaseModel):
    """A place that has grown: what falls there, and how much of it."""

    model_config = ConfigDict(frozen=True)

    what: str
    share_before: float
    share_now: float


class Finding(BaseModel):
    """One series that is not as its reference says."""

    model_config = ConfigDict(frozen=True)

    series: str
    source: Literal["event", "signal"]
    kind: Kind
    ended: bool = False
    """It is as ordinary again."""
    since_ms: int
    """From which hour on, as well as counts say."""
    seen_ms: int
    """Event time when it was seen."""
    rows: int
    """Of the window it was seen in."""
    psi: float
    limit: float
    """From where on the index is not ordinary."""
    jensen_shannon: float
    wasserstein: float | None
    """In the field's unit; None for words."""
    mean_before: float | None
    mean_now: float | None
    odd_share: float | None = None
    """Of missing or outside: the share now, of the kinds that are about it."""
    odd_before: float | None = None
    grown: list[Growth]
    """The places that make up most of the index, the most first."""
    decisions_before: Mapping[str, float]
    decisions_now: Mapping[str, float]
    """Share of each decision among rows in the places that have grown; empty where not known."""
    all_before: Mapping[str, float]
    all_now: Mapping[str, float]
    """The same among all rows."""

    @property
    def sentence(self) -> str:
        """Which, since when, how much, and which decisions change."""
        what = self.series if self.source == "event" else f"the signal of {self.series}"
        if self.series == "score":
            what = "the score"
        if self.ended:
            return f"{what} is as ordinary again since {_time(self.since_ms)}."
        return f"{what} {self._how()} since {_time(self.since_ms)}{self._effect()}."

    def _how(self) -> str:
        if self.kind in ("missing", "outside") and self.odd_share is not None:
            verb = "is missing" if self.kind == "missing" else "is beyond the reference"
            return f"{verb} in {self.odd_share:.1%} of rows (before {self.odd_before or 0:.1%})"
        index = f"PSI {self.psi:.2f}, ordinary to {self.limit:.2f}"
        if self.mean_before is not None and self.mean_now is not None:
            return f"has moved, mean {self.mean_before:.4g} to {self.mean_now:.4g} ({index}),"
        most = self.grown[0] if self.grown else None
        where = f", {most.what} {most.share_before:.1%} to {most.share_now:.1%}" if most else ""
        return f"has changed{where} ({index}),"

    def _effect(self) -> str:
        changes = _changes(self.decisions_before, self.decisions_now)
        of_all = _changes(self.all_before, self.all_now)
        if not self.all_now:
            return "; what it does to decisions is not known"
        grown = self.grown[0].what if self.grown else ""
        parts = []
        if changes and grown:
            parts.append(f"where it is {grown}: {changes}")
        if of_all:
            parts.append(f"of all rows: {of_all}")
        return "; " + ("; ".join(parts) or "no decision's share changes by 0.5 % or more")


_LEAST_CHANGE = 0.005


def _changes(before: Mapping[str, float], now: Mapping[str, float]) -> str:
    """The decisions whose share is another, in words; empty where none is."""
    return ", ".join(
        f"{name} {before[name]:.1%} to {share:.1%}"
        for name, share in now.items()
        if name in before and abs(share - before[name]) >= _LEAST_CHANGE
    )


def _time(milliseconds: int) -> str:
    """An hour, as people write it."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:00} UTC"
