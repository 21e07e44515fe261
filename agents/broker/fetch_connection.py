"""A connection whose answers are received where their records are read.

aiokafka collects an answer in a buffer that grows with it, and copies it three times more: that
takes a reader of whole topics longer than all that it does with the records. Here the kernel writes
an answer into memory of its size, and the records of a fetch are views of it.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import numpy as np
from aiokafka.conn import CloseReason

from topics.kafka import give_answer, receive_by

_SIZE = struct.Struct(">i")
_TEXT = 2**15
"""No text of Kafka's protocol is longer; aiokafka wants its bytes, not a view of them."""


def receive_in_place(connection: Any) -> None:
    """Make *connection*, an aiokafka connection that waits for no answer, receive this way."""
    receive_by(connection, _Protocol)


class _Protocol(asyncio.BufferedProtocol):
    """Receives one answer after the other: its size first, then so many bytes."""

    def __init__(self, connection: Any, before: asyncio.BaseProtocol) -> None:
        self._connection = connection
        self._before = before
        self._expect(size=None)

    def _expect(self, size: int | None) -> None:
        self._is_size = size is None
        # Not zeroed as a bytearray is, and in huge pages where the system has them.
        self._buffer = np.empty(_SIZE.size if size is None else size, np.uint8).data
        self._received = 0

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's name
        return self._buffer[self._received :]

    def buffer_updated(self, nbytes: int) -> None:
        self._received += nbytes
        if self._received < len(self._buffer):
            return
        if self._is_size:
            self._expect(*_SIZE.unpack(self._buffer))
            return
        answer = _Answer(self._buffer)
        self._expect(size=None)
        give_answer(self._connection, answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._before.connection_lost(exc)
        self._connection.close(reason=CloseReason.CONNECTION_BROKEN, exc=exc)


class _Answer:
    """The bytes of an answer as the file that aiokafka decodes."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._at = 0

    def read(self, size: int) -> bytes | memoryview:
        """The next bytes: copied where they are few, a view where they are records."""
        content = self._content[self._at : self._at + size]
        self._at += size
        return bytes(content) if size < _TEXT else content
