"""Whether a source goes on where it was left: what was deleted, or begins anew, is noticed."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from faust.types import TP

from agents.identity import TopicReader, check_identity
from agents.workers import TailReader
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


async def check_continues(
    tail: TopicReader, topic: str, partition: int, done: int, outputs: Iterable[TP] = ()
) -> None:
    """Raise TopicRecreated when a source is not the topic that was dealt with up to offset *done*.

    Its records are others then, though their offsets are the same. *outputs* are what was made of
    the partition: they tell of a topic that was made anew, however far it has grown.
    """
    if done >= 0:
        _, end = await tail.bounds(topic, partition)
        if end <= done:
            raise TopicRecreated(
                topic,
                f"{topic}[{partition}] ends at offset {end}, but offset {done} has been dealt with",
                topic.rpartition(".")[0],
            )
    await check_identity(tail, TP(topic, partition), outputs)
