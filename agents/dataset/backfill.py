"""Features that were not served: extractors of the pipeline file, run over the recorded events.

As in a replay, each partition is read in its order from as far back as windows reach, and what an
event's features are made of has come before it: no feature knows of anything later. Components that
are repartitioned by another key are not run again; what they have written is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import NamedTuple

import numpy as np
from aiokafka.structs import TopicPartition

from agents.replay.event_columns import PartitionEvents
from agents.replay.recorded_range import RecordedBlock, SourceRange
from agents.replay.warm_up import warm_up_of
from agents.workers import TailReader
from models.arrays import Bools, Floats32
from models.features import FeatureVector
from topics.pipeline import EVENTS, ComponentSpec, Pipeline, Topology


class BackfilledFeatures(NamedTuple):
    """What an extractor makes of N events now."""

    values: Floats32
    """(N, F); means nothing where not present."""
    present: Bools
    """Valid events whose windows reach back to nothing that is gone (N,)."""


def as_served(pipeline: Pipeline) -> list[str]:
    """The extractors that are not run again, whose features are those that were served."""
    computed = {spec.name for spec in backfilled_components(pipeline)}
    return [
        spec.name
        for spec in pipeline.components
        if spec.features is not None and spec.name not in computed
    ]


def backfilled_components(pipeline: Pipeline) -> list[ComponentSpec]:
    """The extractors that can be run again by one partition alone."""
    return [
        spec
        for spec in pipeline.components
        if spec.features is not None
        and EVENTS in spec.inputs
        and not pipeline.is_repartitioned(spec.name)
    ]


class Backfill:
    """Runs the extractors over one partition's range, block by block."""

    def __init__(self, pipeline: Pipeline, tail: TailReader, of: SourceRange) -> None:
        self._pipeline, self._tail, self._of = pipeline, tail, of
        self._vectors = {
            spec.name: FeatureVector(spec.features or ())
            for spec in backfilled_components(pipeline)
        }
        self._events: PartitionEvents | None = None

    async def features(self, block: RecordedBlock) -> Mapping[str, BackfilledFeatures]:
        """Component → its features of the events of *block*, the next of the range."""
        if self._events is None:
            self._events = await self._warmed_up(block)
        parts = [part for batches in block.stages.values() for part in batches]
        columns = self._events.read(block.events, parts)
        n, valid = len(block), columns.decoded.valid
        made = {}
        for name, vector in self._vectors.items():
            windows = columns.windows.get(name)
            own = {} if windows is None else windows.columns
            values = np.zeros((n, len(vector.names)), np.float32)
            present = np.zeros(n, np.bool_)
            if len(valid):
                with np.errstate(over="ignore"):  # to infinity, which no component lets through
                    values[valid] = vector.compute({**columns.decoded.columns, **own})
                present[valid] = True if windows is None else windows.whole
            made[name] = BackfilledFeatures(values, present & np.isfinite(values).all(axis=1))
        return made

    async def _warmed_up(self, first: RecordedBlock) -> PartitionEvents:
        """What knows of the events before the range."""
        topic, partition = Topology.of(self._pipeline).events, self._of.partition
        warm_up = await warm_up_of(self._tail, self._pipeline, {partition: first}, [self._of])
        is_whole = (topic, partition) in warm_up.whole
        events = PartitionEvents(self._pipeline, partition, is_whole=is_whole)
        position = warm_up.positions.get(TopicPartition(topic, partition), self._of.start)
        if position < self._of.start:
            chunks = self._tail.between_chunks(topic, partition, position, self._of.start)
            async with aclosing(chunks):
                async for records in chunks:
                    events.read(records)
        return events
