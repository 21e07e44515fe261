"""Events without an end, though later ones of their partition have theirs: such an end is lost."""

from __future__ import annotations

from contextlib import aclosing

from agents.replay.log_cursor import source_offset
from agents.replay.report import Difference, Tally
from agents.workers import TailReader
from topics.pipeline import WEIGH, Topology
from topics.records import Source, buried_offset


async def count_lost(tail: TailReader, topology: Topology, tally: Tally, partition: int) -> None:
    """Count those of *partition* that were passed by and have no dead letter now, either.

    Dead letters that are gone by retention tell of no event: then it is not known.
    """
    passed_by = tally.passed_by.get(partition)
    if not passed_by:
        return
    first, _ = await tail.bounds(topology.dead_letters, partition)
    known_from, dead = 0 if first == 0 else None, set[int]()
    chunks = tail.chunks(topology.dead_letters, partition, first)
    async with aclosing(chunks):
        async for records in chunks:
            for record in records:
                if (about := source_offset(record, buried_offset)) is not None:
                    known_from = about if known_from is None else known_from
                    dead.add(about)
    lost = [] if known_from is None else [each for each in passed_by - dead if each >= known_from]
    tally.lost += len(lost)
    tally.undecided -= len(lost)
    for offset in lost:
        tally.differ(Difference(
            source=Source(topic=topology.events, partition=partition, offset=offset),
            stage=WEIGH, field="decision", recorded="none, though later events are decided",
            recomputed="a decision or a dead letter",
        ))  # fmt: skip
