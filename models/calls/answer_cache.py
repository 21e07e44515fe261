"""Answers that are kept for a while, and what they are kept by."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from models.component import Batch, Floats

Answer = tuple[Floats, np.float32]
"""Of a row: its output (F,) and its signal."""


class AnswerCache:
    """The newest answers, each for so many seconds.

    >>> cache = AnswerCache(1, 60, lambda: 0.0)
    >>> cache.put(b"a", (np.ones(1), np.float32(1)))
    >>> cache.put(b"b", (np.ones(1), np.float32(1)))
    >>> cache.get(b"a") is None, cache.get(b"b") is None
    (True, False)
    """

    def __init__(self, most: int, keep_s: float, clock: Callable[[], float]) -> None:
        self._most, self._keep_s, self._clock = most, keep_s, clock
        self._answers = OrderedDict[bytes, tuple[float, Answer]]()

    def get(self, key: bytes) -> Answer | None:
        """The answer, while it is fresh."""
        answered = self._answers.get(key)
        if answered is None or self._clock() - answered[0] >= self._keep_s:
            return None
        self._answers.move_to_end(key)
        return answered[1]

    def put(self, key: bytes, answer: Answer) -> None:
        """Keep an answer; the one that was used the longest ago goes for it."""
        self._answers[key] = self._clock(), answer
        self._answers.move_to_end(key)
        while len(self._answers) > self._most:
            self._answers.popitem(last=False)


def row_key(batch: Batch, fields: Sequence[str], row: int) -> bytes:
    """What a row holds of these fields, and of all inputs, as bytes that no other row has."""
    parts = [name.encode() + _bytes_of(batch.columns[name][row]) for name in fields]
    parts += [
        name.encode() + _bytes_of(stage.output[row]) + _bytes_of(stage.signal[row])
        for name, stage in batch.inputs.items()
    ]
    return b"".join(b"%d:%b" % (len(part), part) for part in parts)


def _bytes_of(value: object) -> bytes:
    if isinstance(value, np.ndarray | np.generic):
        return value.tobytes()
    return repr(value).encode("utf-8", "backslashreplace")
