"""Whether decisions of W1 are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.card_events import STAGES, ExpectedDecisions
from tests.benchmarks.check import Output, Wrong, differs, parsed, short

TOLERANCE = 1e-5

Locate = Callable[[int, int], int]
"""(partition, offset) of the events topic → the event's number."""


@dataclass(slots=True)
class DecisionCheck:
    """Checks decisions of W1 against `ExpectedDecisions`."""

    expected: ExpectedDecisions
    events_topic: str
    locate: Locate

    def look(self, outputs: Sequence[Output]) -> list[int]:
        """The events' numbers; Wrong for the first output that is wrong."""
        numbers, signals, scores = [], [], []
        for output in outputs:
            found = parsed(output)
            try:
                numbers.append(self._number(output, found))
                said = found["contributions"]
                signals.append([said[stage]["signal"] for stage in STAGES])
                scores.append(found["score"])
            except (KeyError, TypeError, IndexError) as exc:
                raise Wrong(f"{short(output.value)}: no {exc} in it") from exc
        self._check_figures(numbers, np.array(signals, np.float64), np.array(scores, np.float64))
        return numbers

    def _number(self, output: Output, found: Mapping[str, Any]) -> int:
        source = found["source"]
        number = self.locate(source["partition"], source["offset"])
        event_id = f"tx-{number:08d}"
        pairs = [
            ("event_id", event_id, found["event_id"]),
            ("the record's key", event_id.encode(), output.key),
            ("source.topic", self.events_topic, source["topic"]),
            ("event_time", self.expected.times[number], found["event_time"]),
            ("degraded", False, found["degraded"]),
        ]
        if not self.expected.near_threshold[number]:
            pairs.append(("decision", self.expected.decisions[number], found["decision"]))
        for what, right, said in pairs:
            if right != said:
                raise differs(event_id, what, right, said)
        return number

    def _check_figures(
        self, numbers: list[int], signals: NDArray[np.float64], scores: NDArray[np.float64]
    ) -> None:
        rows = np.array(numbers, np.int64)
        found = np.concatenate([signals, scores[:, None]], axis=1)
        right = np.concatenate(
            [self.expected.signals[rows], self.expected.scores[rows, None]], axis=1
        )
        bad = np.argwhere(~(np.abs(found - right) <= TOLERANCE))
        if len(bad):
            row, column = bad[0].tolist()
            what = [*(f"signal of {stage}" for stage in STAGES), "score"][column]
            event_id = f"tx-{numbers[row]:08d}"
            raise differs(event_id, what, float(right[row, column]), float(found[row, column]))
