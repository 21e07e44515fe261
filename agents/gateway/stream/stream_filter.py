"""Which decisions and dead letters a caller wants of the stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.gateway.problem import InvalidParameter
from agents.gateway.requests import Parameters
from topics.pipeline import WEIGH, Pipeline

FILTERS = (
    "decision", "min_score", "max_score", "degraded", "decided_by", "explored", "event_id",
    "stage", "dead_letters",
)  # fmt: skip
"""The parameters of a query that filter."""

DECIDED_BY = ("score", "late")


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """What is wanted; callers with the same filter are served by one reading of it."""

    decisions: frozenset[str] | None = None
    """None for whatever was decided."""
    min_score: float | None = None
    max_score: float | None = None
    degraded: bool | None = None
    decided_by: str | None = None
    explored: bool | None = None
    event_id: str | None = None
    stage: str | None = None
    """Decisions that lack its signal, dead letters that it made."""
    dead_letters: bool = False
    """Dead letters too. What a decision has and a dead letter has not does not filter these."""

    @property
    def wants_all_decisions(self) -> bool:
        """Nothing of a decision has to be looked at."""
        return self == StreamFilter(dead_letters=self.dead_letters)

    def wants_decision(self, record: Mapping[str, Any]) -> bool:
        """Whether a decision record is wanted."""
        score = record.get("score")
        return (
            (self.decisions is None or record.get("decision") in self.decisions)
            and (self.min_score is None or (score is not None and score >= self.min_score))
            and (self.max_score is None or (score is not None and score <= self.max_score))
            and (self.degraded is None or record.get("degraded") is self.degraded)
            and (self.decided_by is None or record.get("decided_by") == self.decided_by)
            and (self.explored is None or record.get("explored", False) is self.explored)
            and (self.event_id is None or record.get("event_id") == self.event_id)
            and (self.stage is None or self.stage in record.get("missing", ()))
        )

    def wants_dead_letter(self, letter: Mapping[str, Any]) -> bool:
        """Whether a dead letter is wanted."""
        return (
            self.dead_letters
            and (self.event_id is None or letter["event_id"] == self.event_id)
            and (self.stage is None or letter["stage"] == self.stage)
        )


def filter_of(parameters: Parameters, pipeline: Pipeline) -> StreamFilter:
    """What the parameters of a query ask for. Raises InvalidParameter, which names one."""
    decided_by = parameters.text("decided_by")
    if decided_by is not None and decided_by not in DECIDED_BY:
        raise InvalidParameter("decided_by", f"one of {', '.join(DECIDED_BY)}")
    stage, stages = parameters.text("stage"), stages_of(pipeline)
    if stage is not None and stage not in stages:
        raise InvalidParameter("stage", f"one of {', '.join(stages)}")
    least, most = _score(parameters, "min_score"), _score(parameters, "max_score")
    if least is not None and most is not None and least > most:
        raise InvalidParameter("min_score", "it is above max_score: nothing would ever come")
    degraded, explored = (
        None if parameters.text(name) is None else parameters.flag(name)
        for name in ("degraded", "explored")
    )
    return StreamFilter(
        _decisions(parameters, pipeline), least, most, degraded, decided_by, explored,
        parameters.text("event_id"), stage, parameters.flag("dead_letters"),
    )  # fmt: skip


def decisions_of(pipeline: Pipeline) -> list[str]:
    """All that can be decided, by the pipeline file."""
    return [pipeline.policy.otherwise, *pipeline.policy.thresholds]


def stages_of(pipeline: Pipeline) -> list[str]:
    """All that can be missing, or make a dead letter."""
    return [*(spec.name for spec in pipeline.components), WEIGH]


def _decisions(parameters: Parameters, pipeline: Pipeline) -> frozenset[str] | None:
    text = parameters.text("decision")
    if text is None:
        return None
    wanted, known = frozenset(text.split(",")), decisions_of(pipeline)
    if not wanted <= {*known}:
        raise InvalidParameter("decision", f"one or several, with commas, of {', '.join(known)}")
    return wanted


def _score(parameters: Parameters, name: str) -> float | None:
    text = parameters.text(name)
    if text is None:
        return None
    try:
        score = float(text)
    except ValueError:
        score = -1.0
    if not 0 <= score <= 1:
        raise InvalidParameter(name, "a number from 0 to 1")
    return score
