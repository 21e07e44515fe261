"""What the stages made of dead events at their first attempt, found on the stage topics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing

import numpy as np

from agents.redrive.dead_letter_index import Identity, Letter
from agents.workers import TailReader
from topics.errors import WireError
from topics.pipeline import Topology
from topics.records import StageBatch, decode
from topics.redrive import ErrandOutputs, contents_of
from topics.settings import BrokerSettings

_SLACK_MS = 60_000
"""Clocks of producers and workers may differ by so much."""

Outputs = Mapping[Identity, Mapping[str, StageBatch]]


async def known_outputs(
    settings: BrokerSettings, topology: Topology, letters: Iterable[Letter]
) -> Outputs:
    """Source record → component → its output of one row, of those that are still there."""
    tail = TailReader(settings)
    await tail.start()
    try:
        return await find_outputs(tail, topology, letters)
    finally:
        await tail.stop()


async def find_outputs(
    tail: TailReader, topology: Topology, letters: Iterable[Letter]
) -> dict[Identity, ErrandOutputs]:
    """Like `known_outputs`, with a reader that is there.

    One pass over each stage topic's partition that matters, from when the first of the letters'
    events was published until it is behind the last of them.
    """
    contents: defaultdict[Identity, dict[str, bytes]] = defaultdict(dict)
    present: defaultdict[Identity, dict[str, bool]] = defaultdict(dict)
    by_partition = defaultdict[int, list[Letter]](list)
    for letter in letters:
        by_partition[letter.source.partition].append(letter)
    for name in topology.components:
        for partition, of in by_partition.items():
            async for source, content, is_present in _outputs(tail, topology, name, partition, of):
                contents[source].setdefault(name, content)
                present[source].setdefault(name, is_present)
    return {source: ErrandOutputs(it, present[source]) for source, it in contents.items()}


async def _outputs(
    tail: TailReader, topology: Topology, name: str, partition: int, letters: Sequence[Letter]
) -> AsyncIterator[tuple[Identity, bytes, bool]]:
    """The outputs of component *name* for the letters' events, and which of them are present."""
    topic = topology.stage(name)
    wanted = np.unique(np.array([letter.source.offset for letter in letters], np.int64))
    lanes = topology.partitions if name in topology.repartitioned else 1
    reached = dict.fromkeys(range(lanes), -1)
    """Lane → the last source offset that it has answered for, as far as it was read."""
    since_ms = min(letter.published_ms for letter in letters) - _SLACK_MS
    start = await tail.since(topic, partition, since_ms)
    async with aclosing(tail.chunks(topic, partition, start)) as chunks:
        async for records in chunks:
            for record in records:
                try:
                    batch = decode(record.value, dict(record.headers))
                except WireError:
                    continue
                reached[batch.lane or 0] = batch.covers_to
                offsets = batch.rows.offsets
                at = wanted.searchsorted(offsets)
                rows = np.flatnonzero(wanted.take(at, mode="clip") == offsets).tolist()
                for row, content in zip(
                    rows, contents_of(batch, rows) if rows else [], strict=True
                ):
                    yield Identity(partition, int(offsets[row])), content, bool(batch.present[row])
            if min(reached.values()) >= wanted[-1]:
                return
