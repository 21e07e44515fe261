"""Which source offsets a batch answers for: what was deleted before it was read is noticed."""

from __future__ import annotations

import logging

from faust.types import TP

from agents.tail import TailReader

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
