"""How many bytes of events may be in flight, so that no topic drops what is still to be read.

The embedded broker keeps 5 MiB a partition. What is not read yet of any topic is about events in
flight: so each event counts as the largest record, or part of one, that is written about it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from models.features import FeatureVector
from topics.kafka import MAX_BYTES_IN_FLIGHT
from topics.pipeline import Pipeline

_DECISION_BYTES = 600
"""A decision without its contributions, or what the headers of a dead letter add; about that."""
_STAGE_BYTES = 250
"""What a decision says of a stage; about that."""
_ROW_BYTES = 120
"""Of a row of a stage batch, without its output: coordinates, times, event id and key."""
_NUMBER_BYTES = {"binary": 4, "json": 24}


def bytes_about_event(pipeline: Pipeline) -> int:
    """About how many bytes the widest record has that a pipeline writes about an event.

    Components of one's own, whose width nobody knows, are left out.
    """
    widest = max(len(FeatureVector(spec.features or []).names) for spec in pipeline.components)
    row = _ROW_BYTES + widest * _NUMBER_BYTES[pipeline.codec]
    return max(row, _DECISION_BYTES + _STAGE_BYTES * len(pipeline.weighting.inputs))


class ByteLimit:
    """The bytes in flight of each partition, and which events still fit.

    >>> room = ByteLimit(about_event=100, most=300)
    >>> room.fitting([(0, 50), (1, 50), (0, 50), (0, 50)])
    3
    >>> room.enter(0, 50)
    >>> room.fitting([(0, 50), (0, 50)])
    1
    """

    def __init__(self, about_event: int, most: int = MAX_BYTES_IN_FLIGHT) -> None:
        self._about_event, self._most = about_event, most
        self._in_flight: defaultdict[int, int] = defaultdict(int)

    def enter(self, partition: int, size: int) -> None:
        """An event of *size* bytes is on its way."""
        self._in_flight[partition] += size + self._about_event

    def leave(self, partition: int, size: int) -> None:
        """It has ended."""
        self._in_flight[partition] -= size + self._about_event

    def fitting(self, events: Sequence[tuple[int, int]]) -> int:
        """How many of *events*, each its partition and bytes, may follow now, from the first on.

        One that is too large by itself follows alone.
        """
        added: defaultdict[int, int] = defaultdict(int)
        for place, (partition, size) in enumerate(events):
            added[partition] += size + self._about_event
            total = self._in_flight[partition] + added[partition]
            if total > self._most and total > size + self._about_event:
                return place
        return len(events)
