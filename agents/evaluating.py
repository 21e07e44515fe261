"""Streaming labelled events through a running pipeline, and what its decisions topic says."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from agents.evaluation_data import LabelledEvent
from agents.streaming import Stream
from models.evaluation import EvaluationError
from topics.settings import BrokerSettings

Floats = NDArray[np.float64]

COMPOSED = "composed"
"""The row of the weighted score, beside one row for each stage's signal."""

_QUIET_S = 60.0
"""The evaluation ends without the rest when nothing has ended for this long."""


class NotDecided(EvaluationError):
    """The stream ended before every event had."""

    def __init__(self, missing: int, waited_s: float) -> None:
        super().__init__(
            f"{missing:,} events have neither a decision nor a dead letter, and for "
            f"{waited_s:.0f} s nothing has ended; is another worker in the pipeline's groups?"
        )


@dataclass(slots=True, kw_only=True)
class Evaluation(Stream):
    """A stream in progress: what was published, and what was decided about it."""

    events: Sequence[LabelledEvent]
    _said: array[float] = field(default_factory=lambda: array("d"))
    """The score and the stages' signals of one decision after the other."""

    async def run(self, settings: BrokerSettings) -> None:
        """Publish all events and wait for their ends. Raises NotDecided."""
        labelled = ((orjson.loads(event.value), event.label) for event in self.events)
        await self.stream(settings, labelled, quiet_s=_QUIET_S)
        if self.ended < len(self.events):
            raise NotDecided(len(self.events) - self.ended, _QUIET_S)

    def decided(self, decision: Mapping[str, Any]) -> None:
        """Keep the score, and the signal of every stage: 0 of one that is missing."""
        self._said.append(decision["score"])
        parts = decision["contributions"]
        for stage in self.pipeline.weighting.inputs:
            self._said.append(parts[stage]["signal"] if stage in parts else 0.0)

    def scores(self) -> dict[str, Floats]:
        """What was said of each event (N,): the composed score, and each stage's signal.

        0 where nothing was said: an event that became a dead letter alarms nobody.
        """
        names = [COMPOSED, *self.pipeline.weighting.inputs]
        found = np.zeros((len(self.events), len(names)))
        places = self.places()
        found[places[places >= 0]] = np.array(self._said).reshape(-1, len(names))[places >= 0]
        return dict(zip(names, found.T, strict=True))
