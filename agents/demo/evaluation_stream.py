"""Streaming labelled events through a running pipeline, and what its decisions topic says."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from agents.demo.evaluation_data import EvaluationEvent
from agents.demo.event_stream import PATIENCE_S, Stream
from agents.process.child_process import WorkerProcess
from models.report.handbook import EvaluationError
from models.report.training_report import COMPOSED
from topics.events import EventDecoder
from topics.kafka import Record
from topics.settings import BrokerSettings

Floats = NDArray[np.float64]


class NotDecided(EvaluationError):
    """The stream stood still before every event had ended."""

    def __init__(self, missing: int, waited_s: int, lags: Mapping[str, int]) -> None:
        behind = ", ".join(f"{name} {lag:,} records" for name, lag in lags.items())
        super().__init__(
            f"{missing:,} events have neither a decision nor a dead letter, and for {waited_s} s "
            f"nothing has moved; what waits in front of components: {behind or 'nothing'}; is "
            "another worker in the pipeline's groups?"
        )


class Shortfall(NamedTuple):
    """The events that were not judged by every stage, though they are valid."""

    events: int
    """Published in all."""
    degraded: int
    """Decided without a stage."""
    lacking: Mapping[str, int]
    """Stage → for how many of them it is missing."""
    dead: int
    """Dead letters."""
    open: int
    """Without an end."""

    def __bool__(self) -> bool:
        return bool(self.degraded or self.dead or self.open)


class NotWhole(EvaluationError):
    """Figures would say as much of this run as of the models, so there are none."""

    def __init__(self, of: Shortfall) -> None:
        stages = ", ".join(f"{name} {rows:,}" for name, rows in of.lacking.items())
        what = [
            f"{of.degraded:,} were decided without a stage ({stages})" if of.degraded else "",
            f"{of.dead:,} valid ones are dead letters" if of.dead else "",
            f"{of.open:,} have no end" if of.open else "",
        ]
        super().__init__(
            f"no figures: of {of.events:,} events {' and '.join(filter(None, what))}; figures are "
            "of models only where every stage has answered for every valid event. Here rows wait "
            "for late stages, so a component fails on these rows (the workers say above why, and "
            "it is to be mended), or workers with a deadline run in the same consumer groups"
        )


@dataclass(slots=True, kw_only=True)
class Evaluation(Stream):
    """A stream in progress: what was published, and what was decided about it."""

    events: Sequence[EvaluationEvent]
    _said: array[float] = field(default_factory=lambda: array("d"))
    """The score and the stages' signals of one decision after the other."""
    _lacking: dict[int, list[str]] = field(default_factory=dict)
    """Of a decision without all stages, by its number: those that it lacks."""
    _decisions: int = 0

    async def run(
        self, settings: BrokerSettings, workers: WorkerProcess, patience_s: int = PATIENCE_S
    ) -> None:
        """Publish all events and wait for their ends. Raises NotDecided and WorkersEnded."""
        labelled = ((orjson.loads(event.value), event.label) for event in self.events)
        await self.stream(settings, labelled, workers, patience_s=patience_s)
        if self.ended < len(self.events):
            raise NotDecided(len(self.events) - self.ended, patience_s, workers.lags())

    def decided(self, decision: Mapping[str, Any]) -> None:
        """Keep the score, and the signal of every stage: 0 of one that is missing."""
        self._said.append(decision["score"])
        parts = decision["contributions"]
        stages = self.pipeline.weighting.inputs
        for stage in stages:
            self._said.append(parts[stage]["signal"] if stage in parts else 0.0)
        if missing := [stage for stage in stages if stage not in parts]:
            self._lacking[self._decisions] = missing
        self._decisions += 1

    def scores(self) -> dict[str, Floats]:
        """What was said of each event (N,): the composed score, and each stage's signal.

        0 where nothing was said: an event that became a dead letter alarms nobody.
        """
        names = [COMPOSED, *self.pipeline.weighting.inputs]
        scores = np.zeros((len(self.events), len(names)))
        places = self.places()
        scores[places[places >= 0]] = np.array(self._said).reshape(-1, len(names))[places >= 0]
        return dict(zip(names, scores.T, strict=True))

    def shortfall(self) -> Shortfall:
        """What is missing for figures that are those of the models."""
        places = self.places()
        lacking = {at: stages for at, stages in self._lacking.items() if places[at] >= 0}
        dead = np.unique(self.dead_places())
        dead = dead[dead >= 0]
        open_events = len(self.events) - len(np.union1d(places[places >= 0], dead))
        stages = Counter(stage for missing in lacking.values() for stage in missing)
        return Shortfall(
            len(self.events), len(lacking), stages, self._valid(dead.tolist()), open_events
        )

    def _valid(self, places: Sequence[int]) -> int:
        """How many of these events are valid: nothing is wrong with them that a file can mend."""
        events = [self.events[place] for place in places]
        records = [Record(event.key, event.value, 0) for event in events]
        return len(EventDecoder(self.pipeline.event).decode(records).valid)
