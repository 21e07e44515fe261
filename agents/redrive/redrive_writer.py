"""Writing redriven events in records that are no larger than their topic takes."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from aiokafka.errors import MessageSizeTooLargeError

from agents.redrive.dead_letter_writer import Write
from topics.redrive import RedriveBatch, encode_redrive

_AT_ONCE_BYTES = 250_000


async def write_redrives(write: Write, batch: RedriveBatch) -> list[RedriveBatch]:
    """Append *batch* in few records; the events, one each, that the topic does not take.

    A record that is refused is tried in halves.
    """
    refused: list[RedriveBatch] = []
    left = deque([batch])
    while left:
        some = left.popleft()
        record = encode_redrive(some, int(time.time() * 1000))
        portions = min(len(some), -(-record.size // _AT_ONCE_BYTES))
        if portions > 1:
            left.extendleft(reversed(_split(some, portions)))
            continue
        try:
            await write([record])
        except MessageSizeTooLargeError:
            if len(some) == 1:
                refused.append(some)
            else:
                left.extendleft(reversed(_split(some, 2)))
    return refused


def _split(batch: RedriveBatch, portions: int) -> list[RedriveBatch]:
    return [batch.picked(rows) for rows in np.array_split(np.arange(len(batch)), portions)]
