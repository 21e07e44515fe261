"""Records of one source partition, dealt out to the partitions of another key: the *lanes*."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.stages.source_events import source_rows
from models.features import Ints, WindowPlan
from topics.events import DecodedEvents
from topics.pipeline import OUTCOME, Pipeline, Topology, lane_of
from topics.records import BytesColumn, ModelRef, StageBatch

_CODE = ModelRef("repartition", "", "code")


class KeyDealer:
    """Deals events and outcomes out for repartitioned component *name*."""

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        self._name = name
        self._plan = WindowPlan(pipeline, name)
        self._events = Topology.of(pipeline).events
        self._fields = pipeline.policy.bounded_fields
        self._count = pipeline.partitions

    def batch(
        self, topic: str, partition: int, records: Sequence[ConsumerRecord],
        decoded: DecodedEvents, covers_from: int,
    ) -> tuple[StageBatch, Ints]:  # fmt: skip
        """All *records*: what is kept of each, and whose past it belongs to; and their lanes (N,).

        They are of one source partition, and *decoded*.
        """
        n, valid = len(records), decoded.valid
        fields = self._fields if topic == self._events else ()
        whose = self._plan.entities(decoded.columns)
        kept = (
            self._plan.values(decoded.columns)
            if topic == self._events
            else decoded.columns[OUTCOME].astype(np.float64)[:, None]
        )
        present, values = np.zeros(n, np.bool_), np.zeros((n, kept.shape[1]))
        present[valid], values[valid] = True, kept
        entities = [b""] * n
        for row, entity in zip(valid.tolist(), whose, strict=True):
            entities[row] = entity.encode()
        batch = StageBatch(
            component=self._name, topic=topic, partition=partition, covers_from=covers_from,
            rows=source_rows(records, decoded, fields), present=present, output=values,
            signal=np.zeros(n, np.float32), model=_CODE,
            failures=tuple(
                failure._replace(component=self._name) for failure in decoded.failures
            ),
            entities=BytesColumn.of(entities),
        )  # fmt: skip
        # What is invalid stays in its own.
        lanes = np.full(n, partition % self._count, np.int64)
        lanes[valid] = [lane_of(entity, self._count) for entity in whose]
        return batch, lanes


def dealt(batch: StageBatch, lanes: Ints, count: int) -> Iterator[StageBatch]:
    """The rows of each lane; each part still covers all offsets of the batch."""
    entities = [] if batch.entities is None else batch.entities.items()
    for lane in range(count):
        rows = np.flatnonzero(lanes == lane)
        place = {row: at for at, row in enumerate(rows.tolist())}
        yield replace(
            batch,
            rows=batch.rows.picked(rows),
            present=batch.present[rows], output=batch.output[rows], signal=batch.signal[rows],
            failures=tuple(
                f._replace(row=place[f.row]) for f in batch.failures if f.row in place
            ),
            entities=BytesColumn.of([entities[row] for row in rows.tolist()]),
        )  # fmt: skip
