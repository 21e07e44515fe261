"""Which source offsets a batch answers for: what was deleted, or begins anew, is noticed."""

from __future__ import annotations

import logging

from faust.types import TP

from agents.tail import TailReader
from topics.errors import TopicRecreated

log = logging.getLogger(__name__)


async def covered_from(tail: TailReader, tp: TP, expected: int | None, offset: int) -> int:
    """The first offset that a batch beginning at *offset* answers for.

    That is the *expected* one, or a later one where records were deleted unread.
    """
    if expected is None or offset <= expected:
        return offset
    first, _ = await tail.bounds(tp.topic, tp.partition)
    if first > expected:
        log.error(
            "%s[%d]: offsets %d to %d were deleted before the pipeline read them; "
            "they are counted as unaccounted (is the topic's retention too short?)",
            tp.topic, tp.partition, expected, first - 1,
        )  # fmt: skip
        return first
    return expected  # compaction or transaction markers: no records there


async def check_continues(tail: TailReader, topic: str, partition: int, done: int) -> None:
    """Raise TopicRecreated when a source ends before offset *done*, which has its output already.

    Its records are others than those that were dealt with, though their offsets are the same.
    """
    if done >= 0:
        _, end = await tail.bounds(topic, partition)
        if end <= done:
            raise TopicRecreated(topic, partition, end, done)
