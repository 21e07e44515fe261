"""What is known of a challenger beside its champion."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from models.report.sequential_test import Verdict

Judged = Literal["score", "signal"]


class Quality(BaseModel):
    """How good one model's scores, or signals, are on labelled events."""

    model_config = ConfigDict(frozen=True)

    brier: float
    """Mean squared distance from the outcome."""
    auc: float | None = None
    average_precision: float | None = None
    """None while all outcomes are the same, and without the extra `train`."""


class Comparison(BaseModel):
    """Champion and challenger so far."""

    model_config = ConfigDict(frozen=True)

    component: str
    champion: str
    challenger: str
    rows: int
    """Events that both have a signal for and that are decided."""
    canary_rows: int
    """Those of them that the challenger decided."""
    failures: int
    """Rows that the champion has an output for and the challenger has none."""
    mean_difference: float
    """Of the signals, absolute."""
    max_difference: float
    flips: dict[str, int]
    """"approve → review": decisions that would be (or were) another under the challenger."""
    on: Judged
    """What is held against outcomes: the decisions' scores, or the component's signals."""
    labelled: int
    positives: int
    quality: dict[str, Quality]
    alpha: float
    p_better: float
    p_worse: float
    verdict: Verdict
    """By a sequential test on Brier losses (`models.report.sequential_test`); worse for many
    failures."""
    reason: str
    """The verdict in words."""

    @property
    def agreement(self) -> float:
        """Share of events that both lead to the same decision; 1 for none."""
        return 1 - sum(self.flips.values()) / self.rows if self.rows else 1.0
