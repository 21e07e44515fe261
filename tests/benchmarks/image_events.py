"""The events of W2, 784 inputs each, and what the network says about them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tests.benchmarks.load import Event

INPUTS = 784
CREATED_MS = 1_522_540_831_000
_BLOCK = 512


@lru_cache(maxsize=32)  # the same few are asked for again and again
def pixels(block: int) -> NDArray[np.float32]:
    """Inputs _BLOCK · block … of all events, (_BLOCK, 784); not to be written to."""
    rows: NDArray[np.float32] = np.random.default_rng([7, block]).random(
        (_BLOCK, INPUTS), np.float32
    )
    rows.flags.writeable = False
    return rows


def tensor_events() -> Iterator[Event]:
    """Events of 784 little-endian float32, without end."""
    number = 0
    while True:
        for row in pixels(number // _BLOCK):
            yield Event(number, b"%d" % number, row.astype("<f4").tobytes())
            number += 1


def text_events() -> Iterator[Event]:
    """Events of JSON with the inputs as text, about 8.4 KB each, without end."""
    number = 0
    while True:
        for row in pixels(number // _BLOCK):
            yield Event(number, b"%d" % number, text_value(number, row))
            number += 1


def text_value(number: int, row: NDArray[np.float32]) -> bytes:
    """An event of w2-text."""
    data = ",".join([f"{value:.8f}" for value in row.tolist()])
    return json.dumps({"id": number, "created": CREATED_MS, "data": data}).encode()


class Network:
    """The network in this process."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "ffnn.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._known: dict[int, NDArray[np.float32]] = {}

    def prediction(self, number: int) -> NDArray[np.float32]:
        """What has to come out for event *number*; (10,)."""
        block, row = divmod(number, _BLOCK)
        if block not in self._known:
            self._known[block] = self._session.run(["prediction"], {"input": pixels(block)})[0]
        prediction: NDArray[np.float32] = self._known[block][row]
        return prediction
