"""What the stages made of dead events at their first attempt, found on the stage topics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import replace

import numpy as np

from agents.letters import Identity, Letter
from agents.tail import TailReader
from topics.errors import WireError
from topics.settings import BrokerSettings
from topics.stage_batch import StageBatch
from topics.topology import Topology
from topics.wire import decode

_SLACK_MS = 60_000
"""Clocks of producers and workers may differ by so much."""

Outputs = dict[Identity, dict[str, StageBatch]]


async def known_outputs(
    settings: BrokerSettings,
    topology: Topology,
    letters: Iterable[Letter],
    advance: Callable[[], None],
) -> Outputs:
    """Source record → component → its output of one row, of those that are still there.

    One pass over each stage topic's partition that matters, from when the first of the letters'
    events was published; `advance` is called after each of the `passes`.
    """
    found: Outputs = defaultdict(dict)
    wanted = _by_partition(letters)
    if not wanted:
        return found
    tail = TailReader(settings)
    await tail.start()
    try:
        for name in topology.components:
            for partition, of in wanted.items():
                async for batch in _outputs(tail, topology, name, partition, of):
                    found[Identity(partition, batch.covers_to)][name] = batch
                advance()
    finally:
        await tail.stop()
    return found


def passes(topology: Topology, letters: Iterable[Letter]) -> int:
    """How many partitions are read."""
    return len(topology.components) * len(_by_partition(letters))


def _by_partition(letters: Iterable[Letter]) -> dict[int, list[Letter]]:
    found = defaultdict[int, list[Letter]](list)
    for letter in letters:
        found[letter.source.partition].append(letter)
    return found


async def _outputs(
    tail: TailReader, topology: Topology, name: str, partition: int, letters: list[Letter]
) -> AsyncIterator[StageBatch]:
    """The one-row outputs of component *name* for the letters' events."""
    missing = {letter.source.offset for letter in letters}
    since_ms = min(letter.published_ms for letter in letters) - _SLACK_MS
    start = await tail.since(topology.stage(name), partition, since_ms)
    async with aclosing(tail.chunks(topology.stage(name), partition, start)) as chunks:
        async for records in chunks:
            for record in records:
                try:
                    batch = decode(record.value, dict(record.headers))
                except WireError:
                    continue
                for row in _rows(batch, missing):
                    offset = int(batch.rows.offsets[row])
                    missing.discard(offset)
                    yield replace(
                        batch[row : row + 1], covers_from=offset, covers_to=offset, lane=None
                    )
            if not missing:
                return


def _rows(batch: StageBatch, wanted: set[int]) -> list[int]:
    """The rows of *wanted* source offsets."""
    there: list[int] = np.flatnonzero(np.isin(batch.rows.offsets, list(wanted))).tolist()
    return there
