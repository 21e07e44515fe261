"""What the loss of a worker costs, and what `late:` makes of that.

The partitions of a worker that was killed wait until its session is over; those that are left take
them and catch up, beside what comes meanwhile: with a share b of their time in use, a backlog of
W seconds is gone after W·b / (1 - b). A component that is repartitioned answers events of every
partition, so all events wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

from topics.pipeline import Pipeline
from topics.settings import BrokerSettings

Late = Literal["wait", "degrade", "fallback"]

_SESSION_S: float = BrokerSettings.model_fields["session_timeout_s"].default
_BEGIN_S = 2.0
"""A worker that is given a partition finds out what is done: measured, with the start of a process,
as 2.1 s to the first decision (`make bench ARGS="--only w5"`)."""


@dataclass(frozen=True, slots=True)
class WorkerLoss:
    """One worker of a component is killed at the peak."""

    takeover_s: float
    """Until the others have its partitions: the session time-out, and what they need to begin."""
    catch_up_s: float
    """From then on, until nothing waits any more."""
    waiting_share: float
    """Share of all events that wait meanwhile."""
    late_events: float
    """Of those, how many are decided without the component (`late:`); 0 where all are waited for.
    """


def late_of(pipeline: Pipeline) -> Late:
    """What the pipeline file does with rows that are late."""
    late = pipeline.weighting.late
    return late if isinstance(late, str) else "fallback"


def worker_loss(
    pipeline: Pipeline, events_per_s: float, left: int, busy: float, *, of_all_partitions: bool
) -> WorkerLoss:
    """A worker is killed, and *left* of its component remain, which are *busy* then (0 to 1).

    With none left, its successor is taken to be there when the session is over.
    """
    takeover_s = _SESSION_S + _BEGIN_S
    share = 1.0 if of_all_partitions else 1 / (left + 1)
    deadline_s = pipeline.weighting.deadline_s
    late_s = 0.0 if deadline_s is None else max(0.0, takeover_s - deadline_s)
    return WorkerLoss(
        takeover_s,
        # Those that take over have that share of the backlog, and b of their time for what comes.
        takeover_s * share * busy / (1 - busy) if busy < 1 else inf,
        share,
        events_per_s * share * late_s,
    )


def worst_loss(losses: Mapping[str, WorkerLoss]) -> tuple[str, WorkerLoss]:
    """The component whose worker is missed most, and how."""
    return max(losses.items(), key=lambda each: (each[1].late_events, each[1].catch_up_s))
