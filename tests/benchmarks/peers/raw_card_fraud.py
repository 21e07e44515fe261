"""The stages of w1 for `raw`: a record of a stage topic is a micro-batch of one partition.

A micro-batch is a line of JSON, then rows of fixed size. It keeps its borders on its way through
risk and decision, so the join is a dict by the source coordinates of its first and last row.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray

from tests.benchmarks.peers.card_fraud import STAGES, event_time_ms, features, validated
from tests.benchmarks.peers.contract import Model, Singles, Task
from tests.benchmarks.peers.decisions import Decisions, Origin
from tests.benchmarks.peers.raw import Fetched, Offsets, Output, Stage

_OFFSET, _TIMES = ("offset", "<i8"), [("event_time", "<i8"), ("timestamp", "<i8")]
_X, _SIGNAL = ("x", "<f4", (5,)), ("signal", "<f4")
COLUMNS = {
    "features": np.dtype([_OFFSET, *_TIMES, _X, _SIGNAL]),
    "risk": np.dtype([_OFFSET, _X, _SIGNAL]),
    "decision": np.dtype([_OFFSET, _SIGNAL]),
}
Rows = NDArray[np.void]


def stages(task: Task) -> dict[str, Stage]:
    """All four."""
    return {
        "features": Features(task.model("features")),
        "risk": Scores("features", "risk", task.model("risk")),
        "decision": Scores("risk", "decision", task.model("decision")),
        "weigh": Weigh(task),
    }


def batched(names: Any, rows: Rows) -> bytes:
    """A micro-batch: *names* as JSON, and *rows*."""
    return orjson.dumps(names) + b"\n" + rows.tobytes()


def opened(batch: bytes, stage: str) -> tuple[Any, Rows]:
    """The names and the rows of a micro-batch of *stage*."""
    end = batch.index(b"\n")
    return orjson.loads(batch[:end]), np.frombuffer(batch, COLUMNS[stage], offset=end + 1)


class Features:
    """Validates events; beside Weigh the only one that sees them one by one."""

    reads: Sequence[str] = ("events",)
    writes = "features"

    def __init__(self, model: Model) -> None:
        self._model = model

    def outputs(self, fetched: Fetched) -> Iterator[Output]:
        """A micro-batch for each partition."""
        for (_, partition), records in fetched.items():
            events = [validated(record.value) for record in records]
            rows = np.empty(len(events), COLUMNS["features"])
            rows["offset"] = [record.offset for record in records]
            rows["timestamp"] = [record.timestamp for record in records]
            rows["event_time"] = [event_time_ms(event) for event in events]
            rows["x"] = x = np.array([features(event) for event in events], np.float32)
            rows["signal"] = self._model(x)
            ids = [event.transaction_id for event in events]
            keys = [record.key.decode() for record in records]
            yield Output(partition, None, batched([ids, keys], rows))

    def waiting(self) -> Offsets:
        """None: every event is answered at once."""
        return {}


class Scores:
    """Runs a model on the rows of the stage before: on x, and on that stage's signal if asked."""

    def __init__(self, reads: str, writes: str, model: Model) -> None:
        self.reads: Sequence[str] = (reads,)
        self.writes = writes
        self._model = model

    def outputs(self, fetched: Fetched) -> Iterator[Output]:
        """A micro-batch for each one."""
        for record in chain.from_iterable(fetched.values()):
            _, found = opened(record.value, self.reads[0])
            rows = np.empty(len(found), COLUMNS[self.writes])
            rows["offset"] = found["offset"]
            if self.writes == "risk":
                rows["x"] = found["x"]
            rows["signal"] = self._model(self._inputs(found))
            yield Output(record.partition, None, batched(None, rows))

    def _inputs(self, found: Rows) -> Singles:
        x = found["x"]
        return (
            np.ascontiguousarray(x)
            if self.writes == "risk"
            else np.column_stack([x, found["signal"]])
        )

    def waiting(self) -> Offsets:
        """None: every micro-batch is answered at once."""
        return {}


class Weigh:
    """Joins the micro-batches of the three stages and decides each of their events."""

    reads: Sequence[str] = STAGES
    writes = "decisions"

    def __init__(self, task: Task) -> None:
        self._decisions = Decisions(task.models, task.topic("events"))
        self._stages = {task.topic(name): name for name in STAGES}
        self._joining = defaultdict[tuple[int, int, int], dict[str, ConsumerRecord]](dict)

    def outputs(self, fetched: Fetched) -> Iterator[Output]:
        """Decisions about the micro-batches that are complete now."""
        for record in chain.from_iterable(fetched.values()):
            stage = self._stages[record.topic]
            _, rows = opened(record.value, stage)
            coordinates = (record.partition, int(rows["offset"][0]), int(rows["offset"][-1]))
            self._joining[coordinates][stage] = record
            if len(self._joining[coordinates]) == len(STAGES):
                yield from self._decided(self._joining.pop(coordinates))

    def _decided(self, records: dict[str, ConsumerRecord]) -> Iterator[Output]:
        now_ms = int(time.time() * 1000)
        partition = records["features"].partition
        (ids, keys), known = opened(records["features"].value, "features")
        signals = [opened(records[stage].value, stage)[1]["signal"].tolist() for stage in STAGES]
        times = np.datetime_as_string(known["event_time"].astype("datetime64[ms]"), timezone="UTC")
        columns = known["offset"].tolist(), times.tolist(), known["timestamp"].tolist()
        rows = zip(ids, keys, *columns, zip(*signals, strict=True), strict=True)
        for event_id, key, *rest, signal in rows:
            origin = Origin(event_id, partition, *rest)
            yield Output(partition, key.encode(), self._decisions.record(origin, signal, now_ms))

    def waiting(self) -> Offsets:
        """Of each partition the first micro-batch that is not complete."""
        first: Offsets = {}
        for record in chain.from_iterable(each.values() for each in self._joining.values()):
            partition = TopicPartition(record.topic, record.partition)
            first[partition] = min(record.offset, first.get(partition, record.offset))
        return first
