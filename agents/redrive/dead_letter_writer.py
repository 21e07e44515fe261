"""Writing records that may be larger than their topic takes: dead letters, which are cut then."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from aiokafka.errors import MessageSizeTooLargeError

from agents.workers import StageApp
from topics.kafka import Record
from topics.records import cut_dead_letter

log = logging.getLogger(__name__)

Write = Callable[[Sequence[Record]], Awaitable[object]]
"""Appends records to a partition, in one record batch if they are small enough for one."""

_AT_ONCE_BYTES = 250_000
_DEFAULT_LIMIT = 1_048_588
"""What Kafka's topics take unless they are told otherwise (`max.message.bytes`)."""
_LEAST = 2000
"""A topic that takes no more than this cannot hold a dead letter."""


async def write_while_they_fit(
    write: Write, records: Sequence[Record], at_once_bytes: int = _AT_ONCE_BYTES
) -> int:
    """Append *records* in order, up to the first that the topic does not take.

    The result is how many are written. A broker refuses a record batch as a whole: so what is
    small goes together, in up to *at_once_bytes*, what is large alone, and a batch that is refused
    is tried in halves.
    """
    written = 0
    while written < len(records):
        n = _fitting(records, written, at_once_bytes)
        while True:
            try:
                await write(records[written : written + n])
            except MessageSizeTooLargeError:
                if n == 1:
                    return written
                n //= 2
            else:
                break
        written += n
    return written


def _fitting(records: Sequence[Record], start: int, most: int) -> int:
    """How many records from *start* on go together: those in few bytes, at least one."""
    stop, size = start, 0
    while stop < len(records) and (size := size + records[stop].size) <= most:
        stop += 1
    return max(1, stop - start)


class DeadLetterWriter:
    """Writes dead letters of one topic; one that is too large is cut until the topic takes it."""

    def __init__(self, app: StageApp, topic: str) -> None:
        self._app = app
        self._topic = topic
        self._most = _DEFAULT_LIMIT
        """The size that a letter is cut to; halved when the topic does not take that either."""

    async def write(self, partition: int, letters: Sequence[Record]) -> None:
        """Append *letters* in order; returns when the broker has them.

        Raises MessageSizeTooLargeError when the topic takes no dead letter at all.
        """

        async def write(some: Sequence[Record]) -> None:
            await self._app.writer.write(self._topic, partition, some)

        left = letters
        while left:
            written = await write_while_they_fit(write, left)
            if written < len(left):
                await self._write_cut(write, partition, left[written])
                written += 1
            left = left[written:]

    async def _write_cut(self, write: Write, partition: int, letter: Record) -> None:
        while True:
            try:
                await write([cut_dead_letter(letter, self._most)])
            except MessageSizeTooLargeError:
                if self._most <= _LEAST:
                    raise
                self._most //= 2
            else:
                break
        log.warning(
            "%s[%d] takes no record of %d bytes, so a dead letter was cut: raise the topic's "
            "max.message.bytes", self._topic, partition, letter.size,
        )  # fmt: skip
