"""Fields of events as they stand on their topic, for texts that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.workers import TailReader, ranges
from topics.events import EventDecoder
from topics.pipeline import Pipeline, Value, event_fields
from topics.printable import printable
from topics.records import Source, rfc3339_time

_LONGEST = 64
"""Characters that are shown of a word."""


class ShownFields:
    """Takes out of records those event fields that some text of a pipeline file shows."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._schema = pipeline.event
        self.names = event_fields(pipeline)
        self._decoder = EventDecoder(pipeline.event)

    def of(self, records: Sequence[ConsumerRecord]) -> dict[Source, Mapping[str, Value]]:
        """Source → its event's fields, of those *records* that are valid events."""
        fields: dict[Source, Mapping[str, Value]] = {}
        decoded = self._decoder.decode(records)
        for place, row in enumerate(decoded.valid.tolist()):
            record = records[row]
            source = Source(topic=record.topic, partition=record.partition, offset=record.offset)
            fields[source] = {
                name: value
                for name in self.names
                if (value := self._shown(name, decoded.columns[name][place])) is not None
            }
        return fields

    def _shown(self, name: str, value: Any) -> Value | None:
        """A value of a column; None where it is missing."""
        kind = self._schema.fields[name].type
        if kind == "string":
            return printable(str(value)[:_LONGEST]) or None
        if np.isnan(value):
            return None
        if kind == "timestamp":
            return rfc3339_time(int(value))
        if kind == "boolean":
            return "true" if value else "false"
        return float(value)


class EventFields:
    """Reads these fields of events on their topic."""

    def __init__(self, tail: TailReader, pipeline: Pipeline) -> None:
        self._tail, self._shown = tail, ShownFields(pipeline)

    async def of(self, sources: Sequence[Source]) -> dict[Source, Mapping[str, Value]]:
        """Source → its event's fields, of those events that are still there."""
        fields: dict[Source, Mapping[str, Value]] = {}
        if not self._shown.names:
            return fields
        by_partition: dict[tuple[str, int], list[int]] = {}
        for source in sources:
            by_partition.setdefault((source.topic, source.partition), []).append(source.offset)
        for (topic, partition), offsets in by_partition.items():
            for start, end in ranges(sorted(set(offsets))):
                records = await self._tail.between(topic, partition, start, end)
                wanted = [record for record in records if record.offset in offsets]
                fields |= self._shown.of(wanted)
        return fields
