"""quixstreams as its documentation has it: an Application per stage, a record at a time.

Each Application is a process, as it has a loop of its own; w2 has two of one Application, as two
cores are there. quixstreams has no batches before a model: `apply` is called for every record.
Its joins pair two streams; the last Application reads the three stages' topics and joins by event
in a dict, which is faster than its state store (RocksDB with a changelog) would be, and which a
crash or a rebalance would lose.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from typing import Any

import numpy as np
import orjson
from quixstreams import Application, message_context
from quixstreams.dataframe import StreamingDataFrame

from tests.benchmarks.peers import children, contract, crayfish
from tests.benchmarks.peers.card_fraud import STAGES
from tests.benchmarks.peers.contract import Task
from tests.benchmarks.peers.decisions import Decisions
from tests.benchmarks.peers.stage_records import featured, origin, with_signal


def application(task: Task, name: str) -> Application:
    """An Application, which is a consumer group."""
    return Application(
        broker_address=task.broker, consumer_group=task.group(name),
        auto_offset_reset="earliest", auto_create_topics=False, loglevel="ERROR",
        state_dir=tempfile.mkdtemp(),
    )  # fmt: skip


def read(app: Application, task: Task, name: str) -> StreamingDataFrame:
    """The records of a topic, as bytes."""
    return app.dataframe(app.topic(task.topic(name), value_deserializer="bytes"))


def write(app: Application, task: Task, frame: StreamingDataFrame, name: str) -> None:
    """Everything in *frame* to a topic, with the key that it has."""
    frame.to_topic(app.topic(task.topic(name), value_serializer="bytes"))


def features(task: Task) -> None:
    """Events are validated here."""
    app, model = application(task, "features"), task.model("features")

    def answer(value: bytes, _key: object, timestamp_ms: int, _headers: object) -> bytes:
        at = message_context()
        row = featured(value, at.partition, at.offset, timestamp_ms)
        return with_signal(row, float(model(np.array([row["x"]], np.float32)).reshape(-1)[0]))

    write(app, task, read(app, task, "events").apply(answer, metadata=True), "features")
    app.run()


def scores(task: Task, reads: str, name: str) -> None:
    """Risk reads features; decision also looks at the signal of risk, which it reads."""
    app, model = application(task, name), task.model(name)

    def answer(value: bytes) -> bytes:
        row = orjson.loads(value)
        given = row["x"] if reads == "features" else [*row["x"], row["signal"]]
        return with_signal(row, float(model(np.array([given], np.float32)).reshape(-1)[0]))

    write(app, task, read(app, task, reads).apply(answer), name)
    app.run()


def weigh(task: Task) -> None:
    """The three stages joined by event, and weighed."""
    app = application(task, "weigh")
    decisions = Decisions(task.models, task.topic("events"))
    joining: dict[tuple[int, int], dict[str, Any]] = defaultdict(dict)
    named, *others = [
        read(app, task, name).apply(lambda value, name=name: (name, orjson.loads(value)))
        for name in STAGES
    ]
    for other in others:
        named = named.concat(other)

    def answer(said: tuple[str, dict[str, Any]]) -> list[bytes]:
        name, row = said
        at = row["partition"], row["offset"]
        rows = joining[at]
        rows[name] = row
        if len(rows) < len(STAGES):
            return []
        del joining[at]
        signals = [rows[stage]["signal"] for stage in STAGES]
        return [decisions.record(origin(row), signals, int(time.time() * 1000))]

    write(app, task, named.apply(answer, expand=True), "decisions")
    app.run()


def predict(task: Task) -> None:
    """Workloads w2-text and w2-tensor."""
    app, model = application(task, "predict"), task.model("ffnn")

    def text(value: bytes) -> bytes:
        event = orjson.loads(value)
        texts = crayfish.texts(model(crayfish.tensors([crayfish.floats(event)])))
        return crayfish.answer(event, texts[0])

    def tensor(value: bytes) -> bytes:
        return model(crayfish.tensors([value])).tobytes()

    answer = text if task.workload == contract.W2_TEXT else tensor
    write(app, task, read(app, task, "events").apply(answer), "predictions")
    app.run()


if __name__ == "__main__":
    told = contract.told(__doc__)
    if told.workload == contract.W1:
        children.together([
            (features, (told,)), (scores, (told, "features", "risk")),
            (scores, (told, "risk", "decision")), (weigh, (told,)),
        ])  # fmt: skip
    children.together([(predict, (told,))] * 2)
