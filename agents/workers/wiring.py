"""What a worker is connected to, and whether its time-outs fit each other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from agents.spans import NO_SPANS, SpanRecorder
from agents.workers.app import StageApp
from agents.workers.flow_control import FlowControl
from agents.workers.stage_metrics import StageMetrics
from topics.errors import AnabranchError
from topics.pipeline import Pipeline, Topology
from topics.settings import BrokerSettings

_START_S = 10.0
"""A worker that is started again needs no longer to own its partitions, once its predecessor's
session has ended."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a worker is connected to."""

    pipeline: Pipeline
    app: StageApp
    settings: BrokerSettings
    metrics: StageMetrics
    flow_control: FlowControl = field(default_factory=FlowControl)
    """Shared by the components of a process."""
    spans: SpanRecorder = NO_SPANS
    """Shared alike."""

    @property
    def topology(self) -> Topology:
        """The pipeline's topic names."""
        return Topology.of(self.pipeline)

    def observed_by(self, metrics: StageMetrics) -> Wiring:
        """The same, with the metrics of one of the worker's components."""
        return replace(self, metrics=metrics)


class TimeOutsDoNotFit(AnabranchError):
    """A stage would be given up while its worker is being replaced."""

    def __init__(self, pipeline: str, stall_timeout_s: float, session_timeout_s: float) -> None:
        least = least_stall_timeout_s(session_timeout_s)
        super().__init__(
            f"{pipeline}: weighting.stall_timeout_s is {stall_timeout_s:g}, but a worker that was "
            f"killed is only missed after ANABRANCH_SESSION_TIMEOUT_S ({session_timeout_s:g} s): "
            f"its stage would be given up meanwhile; set stall_timeout_s to {least:g} or more, or "
            "the session's time-out lower"
        )


def least_stall_timeout_s(session_timeout_s: float) -> float:
    """Two sessions, should a worker's successor be killed too, and the time of a start."""
    return 2 * session_timeout_s + _START_S


def check_time_outs(pipeline: Pipeline, settings: BrokerSettings) -> None:
    """Raise TimeOutsDoNotFit."""
    stall_timeout_s = pipeline.weighting.stall_timeout_s
    if stall_timeout_s < least_stall_timeout_s(settings.session_timeout_s):
        raise TimeOutsDoNotFit(pipeline.name, stall_timeout_s, settings.session_timeout_s)
