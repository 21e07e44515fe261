"""Which source records the decisions or dead letters of a record batch are about."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
from aiokafka.structs import TopicPartition
from numpy.typing import NDArray

from agents.audit.decision_batches import UnknownLayout, decided_offsets
from agents.broker import RecordBatch
from topics.records import dead_letter as dead_letters
from topics.records import decision

log = logging.getLogger(__name__)

Ints = NDArray[np.int64]
_NONE = np.zeros(0, np.int64)
_MOST = 2**62
_MAGIC = 2


class Ends(NamedTuple):
    """The ends of a batch: those of first attempts as columns (N,), later ones one by one."""

    offsets: Ints
    """Where the records are."""
    sources: Ints
    """The source offsets that they are about."""
    later: list[tuple[int, int]]
    """Source offsets and attempts."""
    strange: int
    """Records that are none of this pipeline's ends."""


def ends_of(
    batch: RecordBatch, tp: TopicPartition, events: str, *, decisions: bool, start: int, end: int
) -> Ends:
    """The ends in a batch of *tp*, of records with offsets in [start, end)."""
    if decisions and batch.magic >= _MAGIC:
        try:
            deltas, sources = decided_offsets(batch.body(), batch.count, events, tp.partition)
        except UnknownLayout:
            pass
        else:
            offsets = batch.offset + deltas
            inside = (offsets >= start) & (offsets < end)
            return Ends(offsets[inside], sources[inside], [], 0)
    return _decoded(batch, tp, events, decisions=decisions, start=start, end=end)


def _decoded(
    batch: RecordBatch, tp: TopicPartition, events: str, *, decisions: bool, start: int, end: int
) -> Ends:
    of = decision if decisions else dead_letters
    offsets, sources = list[int](), list[int]()
    later, strange = list[tuple[int, int]](), list[str]()
    for record in batch.records():
        if not start <= record.offset < end:
            continue
        try:
            topic, partition, source = of.source_of(record.headers)
            attempt = of.attempt_of(record.headers)
            if (topic, partition) != (events, tp.partition) or not 0 <= source <= _MOST:
                raise ValueError(f"it is about {topic}[{partition}]@{source}")
        except (KeyError, ValueError) as exc:
            strange.append(f"{record.offset}: {exc}")
            continue
        if attempt > 1:
            later.append((source, attempt))
        else:
            offsets.append(record.offset)
            sources.append(source)
    if strange:
        log.warning(
            "%s[%d]: %d records are not Anabranch's, skipped, the first at %s",
            tp.topic, tp.partition, len(strange), strange[0],
        )  # fmt: skip
    if not sources:
        return Ends(_NONE, _NONE, later, len(strange))
    return Ends(np.array(offsets), np.array(sources), later, len(strange))
