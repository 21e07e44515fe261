"""The agents of w1 for `stock_faust`."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import faust
import numpy as np
import orjson

from tests.benchmarks.peers import card_fraud
from tests.benchmarks.peers.contract import Task
from tests.benchmarks.peers.decisions import Decisions, Origin
from tests.benchmarks.peers.stock_faust import TAKE, WITHIN_S, Stream, raw_topic, sent


class Featured(faust.Record, serializer="json"):
    """Output of the agent `features`."""

    event_id: str
    partition: int
    offset: int
    event_time: str
    timestamp_ms: int
    x: list[float]
    signal: float


class Scored(faust.Record, serializer="json"):
    """Output of the agents `risk` and `decision`."""

    partition: int
    offset: int
    x: list[float]
    signal: float


def add_agents(app: faust.App, task: Task) -> None:
    """Features, risk, decision and weigh."""
    featured = app.topic(task.topic("features"), value_type=Featured, key_serializer="raw")
    risks = app.topic(task.topic("risk"), value_type=Scored, key_serializer="raw")
    decisions = app.topic(task.topic("decision"), value_type=Scored, key_serializer="raw")
    _add_features(app, task, featured)
    _add_scores(app, task, "risk", featured, risks)
    _add_scores(app, task, "decision", risks, decisions)
    _add_weigh(app, task)


def _add_features(app: faust.App, task: Task, featured: Any) -> None:
    model = task.model("features")

    def made(event: Any, valid: card_fraud.Event, x: list[float], signal: float) -> Featured:
        at = event.message
        moment, timestamp_ms = card_fraud.event_time(valid), int(at.timestamp * 1000)
        return Featured(
            valid.transaction_id, at.partition, at.offset, moment, timestamp_ms, x, signal
        )

    @app.agent(raw_topic(app, task.topic("events")))
    async def features(stream: Stream) -> None:
        async for taken in stream.take_events(TAKE, WITHIN_S):
            valid = [card_fraud.validated(event.value) for event in taken]
            x = [card_fraud.features(event) for event in valid]
            signals = model(np.array(x, np.float32)).tolist()
            rows = zip(taken, valid, x, signals, strict=True)
            await sent([featured.send(key=row[0].key, value=made(*row)) for row in rows])


def _add_scores(app: faust.App, task: Task, name: str, reads: Any, writes: Any) -> None:
    model, with_signal = task.model(name), name == "decision"

    async def score(stream: Stream) -> None:
        async for taken in stream.take_events(TAKE, WITHIN_S):
            rows = [event.value for event in taken]
            given = [[*row.x, row.signal] if with_signal else row.x for row in rows]
            signals = model(np.array(given, np.float32)).tolist()
            await sent(
                [
                    writes.send(
                        key=event.key, value=Scored(row.partition, row.offset, row.x, signal)
                    )
                    for event, row, signal in zip(taken, rows, signals, strict=True)
                ]
            )

    app.agent(reads, name=name)(score)


def _add_weigh(app: faust.App, task: Task) -> None:
    names = {task.topic(name): name for name in card_fraud.STAGES}
    writer = Decisions(task.models, task.topic("events"))
    decided = raw_topic(app, task.topic("decisions"))

    def record(rows: dict[str, dict[str, Any]], now_ms: int) -> bytes:
        about = rows["features"]
        origin = Origin(
            about["event_id"], about["partition"], about["offset"], about["event_time"],
            about["timestamp_ms"],
        )  # fmt: skip
        return writer.record(origin, [rows[name]["signal"] for name in card_fraud.STAGES], now_ms)

    @app.agent(raw_topic(app, *names))
    async def weigh(stream: Stream) -> None:
        rows: dict[Any, dict[str, Any]] = defaultdict(dict)
        keys: dict[Any, bytes] = {}
        async for taken in stream.take_events(TAKE, WITHIN_S):
            complete = []
            for event in taken:
                row = orjson.loads(event.value)
                at = row["partition"], row["offset"]
                rows[at][names[event.message.topic]] = row
                keys[at] = event.key
                if len(rows[at]) == len(names):
                    complete.append(at)
            now_ms = int(time.time() * 1000)
            await sent(
                [
                    decided.send(key=keys.pop(at), value=record(rows.pop(at), now_ms))
                    for at in complete
                ]
            )
