"""When windows are judged: estimated once they are over, judged once their outcomes are there.

A window is over when a decision about a later event was made, and it has matured when its youngest
event is older than `outcomes: delay`; both by event time, and never before all is read that was
published by then. Each row is tested on a model that was fitted before it came (prequential: Dawid,
Statistical Theory: The Prequential Approach, J. R. Stat. Soc. A 147, 1984). What comes later,
decisions, outcomes or reversals, makes the window's figures anew, from all that is known of it:
nothing is added to what was counted, so nothing can be counted twice. Such revisions come at most
every REVISE_S.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from agents.monitor import (
    DecisionBatch,
    EventBatch,
    Finding,
    MatchedOutcomes,
    MonitorContext,
    MonitorTime,
)
from agents.quality.metrics import QualityMetrics
from agents.quality.promises import Promises
from agents.quality.window_quality import Window, WindowJudge, calibrations
from models.arrays import Ints
from models.quality import Calibration
from topics.pipeline import Policy, duration_ms
from topics.records import QUALITY, Interval, QualityFinding

REVISE_S = 60.0
_AT_ONCE = 4
"""Windows that are judged in one tick: what is read meanwhile is taken in between."""


class _WindowState(BaseModel):
    """What is remembered of a window."""

    model_config = ConfigDict(extra="forbid")

    revision: int = 0
    state: str = "open"
    is_dirty: bool = True
    """Something has come since it was judged."""
    estimates: dict[str, dict[str, Interval]] = {}
    judged_ms: int = 0
    """When, by the clock."""


class _State(BaseModel):
    window: str
    windows: dict[int, _WindowState]


class QualityWatcher:
    """Says how good decisions are, on `<pipeline>.monitor` and in metrics."""

    name = QUALITY
    reads_events = False

    def __init__(self, context: MonitorContext) -> None:
        pipeline = context.file.pipeline
        self._context, self._pipeline = context, pipeline
        self._window_ms = duration_ms(pipeline.quality.window)
        self._delay_ms = duration_ms(pipeline.outcomes.delay)
        self._judge = WindowJudge(pipeline, Promises(context.registry, pipeline.name))
        self._metrics = QualityMetrics(context.metrics, pipeline.name)
        self._windows: dict[int, _WindowState] = {}
        """By its number: its start is so many windows after 1970."""
        self._shown: dict[str, int] = {}
        """State → the newest window that metrics show."""
        self._calibrations: dict[str, Calibration] = {}
        self._calibrated_on = (-1, -1)
        """The window, and its revision, that scores were calibrated on."""

    def decisions(self, batch: DecisionBatch) -> None:
        """Note which windows they are in."""
        self._note(batch.event_ms)

    def events(self, batch: EventBatch) -> None:
        """None are asked for."""

    def outcomes(self, matched: MatchedOutcomes) -> None:
        """Note which windows have to be judged anew."""
        self._note(matched.decisions.event_ms)

    def _note(self, event_ms: Ints) -> None:
        for number in np.unique(event_ms // self._window_ms).tolist():
            self._windows.setdefault(number, _WindowState()).is_dirty = True

    def tick(self, now: MonitorTime) -> Sequence[Finding]:
        """The findings on windows whose time has come."""
        floor_ms = self._context.store.floors.decisions_ms
        self._windows = {
            number: state for number, state in self._windows.items()
            if number * self._window_ms >= floor_ms
        }  # fmt: skip
        if not now.caught_up:
            return []
        due = sorted(number for number, state in self._windows.items() if self._due(number, now))
        return [self._judged(number, now) for number in due[:_AT_ONCE]]

    def _due(self, number: int, now: MonitorTime) -> bool:
        state, end_ms = self._windows[number], (number + 1) * self._window_ms
        if end_ms > now.event_ms:
            return False
        if state.state != self._state_at(number, now):
            return True
        return state.is_dirty and now.wall_ms - state.judged_ms >= REVISE_S * 1000

    def _state_at(self, number: int, now: MonitorTime) -> str:
        has_matured = (number + 1) * self._window_ms + self._delay_ms <= now.event_ms
        return "matured" if has_matured else "estimated"

    def _judged(self, number: int, now: MonitorTime) -> Finding:
        state = self._windows[number]
        state.state, state.is_dirty = self._state_at(number, now), False
        state.revision, state.judged_ms = state.revision + 1, now.wall_ms
        window = Window(number * self._window_ms, (number + 1) * self._window_ms)
        rows = self._context.store.between(window.start_ms, window.end_ms)
        if state.state == "matured":
            finding = self._judge.matured(
                window, rows, self._policy(), state.revision, state.estimates
            )
        else:
            self._calibrate()
            finding = self._judge.estimated(
                window, rows, self._policy(), state.revision, self._calibrations
            )
            state.estimates = {each.subject: each.figures for each in finding.subjects}
        self._show(number, finding, window)
        key = f"{QUALITY}/{finding.since}"
        return Finding(QUALITY, key, finding.model_dump_json().encode())

    def _show(self, number: int, finding: QualityFinding, window: Window) -> None:
        if number >= self._shown.get(finding.state, number):
            self._shown[finding.state] = number
            self._metrics.observe(finding, window.end_ms)

    def _policy(self) -> Policy:
        """The policy in service: figures say what its thresholds come to."""
        deployed = self._context.control().policy
        return self._pipeline.policy if deployed is None else deployed.policy

    def _calibrate(self) -> None:
        """Learn what scores mean from the newest window whose outcomes are there."""
        matured = [number for number, each in self._windows.items() if each.state == "matured"]
        if not matured:
            return
        newest = max(matured)
        revision = self._windows[newest].revision
        if self._calibrated_on != (newest, revision):
            self._calibrated_on = (newest, revision)
            start_ms = newest * self._window_ms
            rows = self._context.store.between(start_ms, start_ms + self._window_ms)
            self._calibrations = calibrations(rows) or self._calibrations

    async def act(self) -> None:
        """Nothing follows: it only says."""

    def snapshot(self) -> bytes:
        """Which windows were judged, and what was estimated of them."""
        state = _State(window=self._pipeline.quality.window, windows=self._windows)
        return state.model_dump_json().encode()

    def restore(self, state: bytes) -> None:
        """Go on from a snapshot. Raises ValueError for one of other windows."""
        try:
            known = _State.model_validate_json(state)
        except ValidationError as exc:
            raise ValueError(f"not understood: {exc.error_count()} fields are wrong") from exc
        if known.window != self._pipeline.quality.window:
            raise ValueError(f"windows of {known.window}, not {self._pipeline.quality.window}")
        self._windows = dict(known.windows)
        for number in {
            max((each for each, of in known.windows.items() if of.state == shown), default=-1)
            for shown in ("matured", "estimated")
        } - {-1}:  # metrics show them, and are empty now
            self._windows[number].is_dirty, self._windows[number].judged_ms = True, 0
