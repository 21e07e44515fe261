"""The agent of w2 for `stock_faust`."""

from __future__ import annotations

import faust
import orjson

from tests.benchmarks.peers import crayfish
from tests.benchmarks.peers.contract import W2_TEXT, Task
from tests.benchmarks.peers.stock_faust import TAKE, WITHIN_S, Stream, raw_topic, sent


def add_agents(app: faust.App, task: Task) -> None:
    """One agent."""
    events = raw_topic(app, task.topic("events"))
    predictions = raw_topic(app, task.topic("predictions"))
    model = task.model("ffnn")

    def texts(values: list[bytes]) -> list[bytes]:
        given = [orjson.loads(value) for value in values]
        said = crayfish.texts(model(crayfish.tensors([crayfish.floats(each) for each in given])))
        return [crayfish.answer(each, text) for each, text in zip(given, said, strict=True)]

    def tensors(values: list[bytes]) -> list[bytes]:
        return [row.tobytes() for row in model(crayfish.tensors(values))]

    answers = texts if task.workload == W2_TEXT else tensors

    @app.agent(events)
    async def predict(stream: Stream) -> None:
        async for taken in stream.take_events(TAKE, WITHIN_S):
            made = answers([event.value for event in taken])
            await sent(
                [
                    predictions.send(key=event.key, value=value)
                    for event, value in zip(taken, made, strict=True)
                ]
            )
