"""Which of two pipelines' decision about an event counts, while one takes the other's place.

The record `rollout` on the control topic of the pipeline that was there first says so to consumers;
`agents.rollout.switch` tells the whole protocol.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from topics.records.decision import Source
from topics.records.reports import Text

ROLLOUT = "rollout"
"""The key of the record."""

_Offset = Annotated[int, Field(ge=0, le=2**62)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Turn(_Record):
    """From here on the decisions of another pipeline count."""

    in_service: Text
    """The pipeline whose decisions count."""
    since: dict[str, list[_Offset]]
    """Events topic → by partition the first event that this is so of, where a producer wrote it."""
    at: str


class Rollout(_Record):
    """All turns of a rollout, in order."""

    pipelines: Annotated[list[Text], Field(min_length=2, max_length=2)]
    """The pipeline that was there first, and the one that is to take its place."""
    turns: list[Turn] = Field(default_factory=list)

    @property
    def in_service(self) -> str:
        """The pipeline that decides what is published now."""
        return self.turns[-1].in_service if self.turns else self.pipelines[0]

    def decides(self, event: Source) -> str:
        """The pipeline whose decision about *event* counts.

        >>> turn = Turn(in_service="b", since={"a.events": [7]}, at="")
        >>> rollout = Rollout(pipelines=["a", "b"], turns=[turn])
        >>> [rollout.decides(Source(topic="a.events", partition=0, offset=at)) for at in (6, 7)]
        ['a', 'b']
        """
        pipeline = self.pipelines[0]
        for turn in self.turns:
            since = turn.since.get(event.topic, [])
            if event.partition < len(since) and event.offset >= since[event.partition]:
                pipeline = turn.in_service
        return pipeline
