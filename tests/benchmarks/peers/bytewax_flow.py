"""bytewax as its documentation has it: Kafka connectors, batches as they are polled, `op.join`.

Two processes, as two cores are there: the one runs features and risk, the other decision and
weigh; every stage reads its topic and writes its own. `flat_map_batch` hands over what one poll
has brought, so a model runs once for it. The join is `op.join` by event, which lets a row go
when all three stages have come. Recovery is on, as at-least-once delivery needs it; its snapshots
cost what they cost a user, though no run here resumes from them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import orjson
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from tests.benchmarks.peers import children, contract, crayfish
from tests.benchmarks.peers.card_fraud import STAGES
from tests.benchmarks.peers.contract import Task
from tests.benchmarks.peers.decisions import Decisions
from tests.benchmarks.peers.stage_records import featured, origin, with_signal

Polled = list[KafkaSourceMessage[Any, Any]]
Answers = Iterable[KafkaSinkMessage[Any, Any]]


def stage(
    flow: Dataflow, task: Task, reads: str, writes: str, answer: Callable[[Polled], Answers]
) -> None:
    """A topic in, a topic out, a batch at a time."""
    read = kop.input(f"{writes}-in", flow, brokers=[task.broker], topics=[task.topic(reads)])
    made = op.flat_map_batch(writes, read.oks, answer)
    kop.output(f"{writes}-out", made, brokers=[task.broker], topic=task.topic(writes))


def add_features(flow: Dataflow, task: Task) -> None:
    """Events are validated here."""
    model = task.model("features")

    def answer(polled: Polled) -> Answers:
        rows = [
            featured(each.value, each.partition, each.offset, each.timestamp[1]) for each in polled
        ]
        signals = model(np.array([row["x"] for row in rows], np.float32)).tolist()
        return [
            KafkaSinkMessage(each.key, with_signal(row, signal))
            for each, row, signal in zip(polled, rows, signals, strict=True)
        ]

    stage(flow, task, "events", "features", answer)


def add_scores(flow: Dataflow, task: Task, reads: str, name: str) -> None:
    """Risk reads features; decision also looks at the signal of risk, which it reads."""
    model = task.model(name)

    def answer(polled: Polled) -> Answers:
        rows = [orjson.loads(each.value) for each in polled]
        given = [row["x"] if reads == "features" else [*row["x"], row["signal"]] for row in rows]
        signals = model(np.array(given, np.float32)).tolist()
        return [
            KafkaSinkMessage(each.key, with_signal(row, signal))
            for each, row, signal in zip(polled, rows, signals, strict=True)
        ]

    stage(flow, task, reads, name, answer)


def add_weigh(flow: Dataflow, task: Task) -> None:
    """The three stages joined by event, and weighed."""
    decisions = Decisions(task.models, task.topic("events"))

    def keyed(polled: Polled) -> list[tuple[str, dict[str, Any]]]:
        return [(each.key.decode(), orjson.loads(each.value)) for each in polled]

    def answer(joined: list[tuple[str, tuple[dict[str, Any], ...]]]) -> Answers:
        now_ms = int(time.time() * 1000)
        return [
            KafkaSinkMessage(
                key.encode(),
                decisions.record(origin(rows[0]), [row["signal"] for row in rows], now_ms),
            )
            for key, rows in joined
        ]

    sides = []
    for name in STAGES:
        read = kop.input(f"{name}-again", flow, brokers=[task.broker], topics=[task.topic(name)])
        sides.append(op.flat_map_batch(f"{name}-keyed", read.oks, keyed))
    joined = op.join("join", *sides)
    made = op.flat_map_batch("decided", joined, answer)
    kop.output("decisions", made, brokers=[task.broker], topic=task.topic("decisions"))


def add_predictions(flow: Dataflow, task: Task) -> None:
    """Workloads w2-text and w2-tensor."""
    model = task.model("ffnn")

    def text(polled: Polled) -> Answers:
        events = [orjson.loads(each.value) for each in polled]
        said = crayfish.texts(model(crayfish.tensors([crayfish.floats(each) for each in events])))
        return [
            KafkaSinkMessage(each.key, crayfish.answer(event, prediction))
            for each, event, prediction in zip(polled, events, said, strict=True)
        ]

    def tensor(polled: Polled) -> Answers:
        said = model(crayfish.tensors([each.value for each in polled]))
        return [
            KafkaSinkMessage(each.key, row.tobytes())
            for each, row in zip(polled, said, strict=True)
        ]

    answer = text if task.workload == contract.W2_TEXT else tensor
    stage(flow, task, "events", "predictions", answer)


def work(task: Task, part: str) -> None:
    """One process: a dataflow of its own."""
    flow = Dataflow(part)
    if part == "predict":
        add_predictions(flow, task)
    elif part == "first":
        add_features(flow, task)
        add_scores(flow, task, "features", "risk")
    else:
        add_scores(flow, task, "risk", "decision")
        add_weigh(flow, task)
    folder = Path(tempfile.mkdtemp())
    init_db_dir(folder, 1)
    cli_main(flow, recovery_config=RecoveryConfig(str(folder)))


if __name__ == "__main__":
    told = contract.told(__doc__)
    parts = ("first", "second") if told.workload == contract.W1 else ("predict",)
    children.together([(work, (told, part)) for part in parts])
