"""Why a decision cannot be explained.

AnabranchError
├── BadCoordinates       coordinates that no record of the pipeline can have
├── DecisionNotFound     no decision about that event is on the topic
│   └── DecisionGone     nor can there be one any more
├── SeveralDecisions     an event id that is not unique
└── NotExplained         there is a decision, and something that it was made by is not there
    ├── NoScore          it was decided without a score
    ├── OutputGone       what a component said of the event is no longer on its topic
    ├── VersionGone      a model or weights that it was decided by are no longer there
    ├── WeightsFixed     weights of the pipeline file keep no background rows
    ├── ScoreDiffers     the function that was put together is not the one that decided
    ├── CodeFails        a component that is declared pure does not load, or fails
    └── NotComputed      the models fail on it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from topics.errors import AnabranchError
from topics.records import Decision, Source

_LISTED = 20


class BadCoordinates(AnabranchError):
    """Coordinates that no record of the pipeline can have."""

    def __init__(self, place: Source, cause: str) -> None:
        super().__init__(f"{named(place)}: {cause}")


class DecisionNotFound(AnabranchError):
    """No decision about that event is on the topic."""

    def __init__(self, what: str, topic: str, pipeline: str, kept: str) -> None:
        super().__init__(
            f"{topic} has no decision about {what}: it may still be in flight (anabranch status "
            f"{pipeline}), a dead letter (anabranch dead-letters list {pipeline}), or gone by "
            f"retention; {kept}"
        )


class DecisionGone(DecisionNotFound):
    """The event is older than what its topic keeps, and there is no decision about it."""

    def __init__(self, place: Source, first: int, topic: str) -> None:
        AnabranchError.__init__(
            self,
            f"{named(place)} is gone by retention ({place.topic} begins at {first:,} in that "
            f"partition), and {topic} has no decision about it any more",
        )


class SeveralDecisions(AnabranchError):
    """An event id that is not unique: there is a line for each decision, the newest first."""

    def __init__(self, event_id: str, decisions: Sequence[Decision]) -> None:
        self._decisions = decisions
        super().__init__(
            f"{len(decisions)} events have the id {event_id!r}: name one by its coordinates"
        )

    @property
    def sources(self) -> list[Source]:
        """The coordinates of the events."""
        return [decision.source for decision in self._decisions]

    @property
    def lines(self) -> list[str]:
        """The message, and what can be named."""
        listed = [
            f"  {named(decision.source)}  {decision.decision}  {decision.decided_at}"
            for decision in self._decisions[:_LISTED]
        ]
        more = len(self._decisions) - _LISTED
        return [f"error: {self}", *listed, *([f"  and {more} more"] if more > 0 else [])]


class NotExplained(AnabranchError):
    """There is a decision, and something that it was made by is not there."""

    reason: ClassVar[str]
    """The label of the metrics."""


class NoScore(NotExplained):
    """It was decided without a score."""

    reason = "no_score"

    def __init__(self, decision: Decision) -> None:
        super().__init__(
            f"{named(decision.source)} was decided without a score ({decision.decision}, since "
            "some stage was late): there is nothing to take apart"
        )


class OutputGone(NotExplained):
    """What a component said of the event is no longer on its topic."""

    reason = "output_gone"

    def __init__(self, topic: str, component: str, place: Source) -> None:
        super().__init__(
            f"{topic} no longer has what {component} said of {named(place)}: it is gone by "
            "retention, and without it the decision cannot be explained"
        )


class VersionGone(NotExplained):
    """A model or weights that it was decided by are no longer there."""

    reason = "version_gone"

    def __init__(self, what: str, place: str) -> None:
        super().__init__(
            f"{what} decided about this event and is no longer in {place}: put it back there from "
            "a backup"
        )


class WeightsFixed(NotExplained):
    """Weights of the pipeline file keep no background rows."""

    reason = "weights_fixed"

    def __init__(self, pipeline: str) -> None:
        super().__init__(
            f"the weights that decided are fixed in the file of pipeline {pipeline}, and no "
            "background rows are kept with those: say weights: learned, and train; what is "
            "decided then can be explained"
        )


class ScoreDiffers(NotExplained):
    """The function that was put together is not the one that decided."""

    reason = "score_differs"

    def __init__(self, place: Source, computed: float, decided: float) -> None:
        super().__init__(
            f"the score of {named(place)} comes out as {computed:.9g}, the decision says "
            f"{decided:.9g}: use the pipeline file that was in service then; where it is that, "
            "another processor or onnxruntime rounds in another way"
        )


class CodeFails(NotExplained):
    """A component of one's own that is declared pure does not load, or fails."""

    reason = "own_code"

    def __init__(self, cause: AnabranchError) -> None:
        super().__init__(
            f"{cause}; mend it, or take pure: true out of the pipeline file: then what it said is "
            "taken as it was recorded"
        )


class NotComputed(NotExplained):
    """The models fail on it."""

    reason = "not_computed"

    def __init__(self, place: Source, cause: Exception) -> None:
        super().__init__(
            f"the models fail on {named(place)}: {type(cause).__name__}: {str(cause)[:200]}"
        )


def named(place: Source) -> str:
    """Coordinates as commands take them."""
    return f"{place.topic}/{place.partition}/{place.offset}"
