"""W2 on the product's own transport: one agent, one `session.run` a fetch.

python -m tests.benchmarks.crayfish --workload w2-text --broker HOST:PORT --models DIR --prefix P
"""

from __future__ import annotations

import argparse
import asyncio
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import orjson
from aiokafka.structs import ConsumerRecord
from numpy.typing import NDArray

from agents.commands.event_loop import run_async, until_signalled
from agents.workers.app import StageApp, add_agent, create_app
from agents.workers.worker import all_done
from topics.kafka.batches import Record
from topics.settings import BrokerSettings
from topics.transport.fetch import Fetch

INPUTS = 784
_RECORDS = 2048
_FLOATS = struct.Struct(f"<{INPUTS}f")
_FIELDS = {"id", "created", "data"}

Singles = NDArray[np.float32]
Values = list[bytes]


def tensor_inputs(value: bytes) -> bytes:
    """The event itself; ValueError when it is not 784 float32."""
    if len(value) != _FLOATS.size:
        raise ValueError(f"{len(value)} bytes, not {_FLOATS.size}")
    return value


def text_inputs(value: bytes) -> bytes:
    """The numbers in the event's `data`, as float32; ValueError for anything else."""
    event = orjson.loads(value)
    if not isinstance(event, dict) or event.keys() != _FIELDS or type(event["data"]) is not str:
        raise ValueError("not an object with id, created and data, which is text")
    # orjson reads floats four times as fast as numpy; struct packs them faster than an array.
    try:
        return _FLOATS.pack(*orjson.loads(f"[{event['data']}]"))
    except (struct.error, OverflowError) as exc:
        raise ValueError(f"data is not {INPUTS} numbers of single precision: {exc}") from exc


def tensor_outputs(_values: Values, predictions: Singles) -> Values:
    """The predictions, as float32."""
    return [row.tobytes() for row in predictions.astype("<f4")]


def text_outputs(values: Values, predictions: Singles) -> Values:
    """The events with a prediction: spliced in, for what was said once need not be said anew."""
    if not values:
        return []
    listed = orjson.dumps(np.ascontiguousarray(predictions), option=orjson.OPT_SERIALIZE_NUMPY)
    texts = listed[2:-2].split(b"],[")
    return [
        b'%s,"prediction":"%s"}' % (value.rstrip()[:-1], text)
        for value, text in zip(values, texts, strict=True)
    ]


class Predictor:
    """Answers every event on the partition that it came from; with the reason, if it is invalid."""

    def __init__(
        self, app: StageApp, session: onnxruntime.InferenceSession, topic: str, *, text: bool
    ) -> None:
        self._app, self._session, self._topic = app, session, topic
        self._inputs: Callable[[bytes], bytes] = text_inputs if text else tensor_inputs
        self._outputs = text_outputs if text else tensor_outputs

    async def handle(self, fetch: Fetch) -> None:
        """Deal with one fetch; returns when its output is on the broker."""
        records = [record for found in fetch.records.values() for record in found]
        answers = iter(self.answers([record.value or b"" for record in records]))
        await all_done(
            [
                self._app.writer.write(
                    self._topic, tp.partition, [_answer(record, next(answers)) for record in found]
                )
                for tp, found in fetch.records.items()
            ]
        )
        self._app.batches.done({tp: each[-1].offset + 1 for tp, each in fetch.records.items()})

    def answers(self, values: Values) -> Values:
        """One answer to each event, in order."""
        inputs, valid, answers = [], [], [_refusal("the prediction is not finite")] * len(values)
        for row, value in enumerate(values):
            try:
                inputs.append(self._inputs(value))
                valid.append(row)
            except ValueError as exc:
                answers[row] = _refusal(str(exc))
        predictions = self._predictions(inputs)
        finite = np.flatnonzero(np.isfinite(predictions).all(axis=1)).tolist()
        rows = [valid[at] for at in finite]
        made = self._outputs([values[row] for row in rows], predictions[finite])
        for row, answer in zip(rows, made, strict=True):
            answers[row] = answer
        return answers

    def _predictions(self, inputs: Sequence[bytes]) -> Singles:
        rows = np.frombuffer(b"".join(inputs), "<f4").reshape(len(inputs), INPUTS)
        outputs: Singles = self._session.run(["prediction"], {"input": rows})[0]
        return outputs


def _refusal(reason: str) -> bytes:
    return orjson.dumps({"error": reason})


def _answer(record: ConsumerRecord, value: bytes) -> Record:
    return Record(record.key, value, record.timestamp)


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


async def serve(options: argparse.Namespace) -> None:
    """Run until SIGTERM or until it fails."""
    stopping = asyncio.Event()
    until_signalled(stopping)
    settings = BrokerSettings(broker=options.broker)
    app = create_app(f"{options.prefix}.ffnn", settings, max_records=_RECORDS)
    session, topic = _session(Path(options.models) / "ffnn.onnx"), f"{options.prefix}.predictions"
    predictor = Predictor(app, session, topic, text=options.workload == "w2-text")
    add_agent(app, [f"{options.prefix}.events"], predictor.handle)
    await app.start()
    waits = [asyncio.ensure_future(event.wait()) for event in (stopping, app.failed)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    await app.stop()
    if app.failure is not None:
        raise app.failure


def main() -> None:
    """Start the agent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", choices=["w2-text", "w2-tensor"], required=True)
    for name in ("broker", "models", "prefix"):
        parser.add_argument(f"--{name}", required=True)
    run_async(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
