"""Redriven events for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.unit.stage_batches import batch_of
from topics.pipeline.topology import WEIGH
from topics.redrive.record import RedriveBatch, RedrivenEvent


def event_of(
    offset: int, *, partition: int = 0, attempt: int = 2, value: bytes | None = b"{}"
) -> RedrivenEvent:
    """An event of partition *partition* whose first attempt ended in letter 3."""
    return RedrivenEvent(
        partition, offset, 3, attempt, 1, b"k", value, [("origin", b"test")] if value else ()
    )


def redrive_of(
    *components: str,
    offsets: Sequence[int] = (7,),
    absent: Iterable[str] = (),
    value: bytes | None = b"{}",
    topic: str = "p.events",
    partition: int = 0,
    component: str = WEIGH,
) -> RedriveBatch:
    """Events with outputs of *components*, all of those in *absent* being absent."""
    outputs = {
        name: [batch_of(name, offsets, absent=offsets if name in absent else [])]
        for name in components
    }
    events = [event_of(offset, partition=partition, value=value) for offset in offsets]
    return RedriveBatch(topic, partition, component, events, outputs)
