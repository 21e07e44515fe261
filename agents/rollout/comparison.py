"""What two pipelines have decided of the same events.

The latest decisions about copies of one pipeline are held against what the other has decided of the
events that they are copies of; of what was explored, what the policy says is compared. Events that
one has decided and the other not (a dead letter, or one that is still behind) are counted, not
compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.workers import TailReader
from topics.pipeline import Pipeline, Topology
from topics.records import Decision, attempt_of
from topics.settings import BrokerSettings

_NEAR = 2000
"""Decisions from the wanted one back to which a search stops, and reads on."""
_GLANCE = 50


class Changed(NamedTuple):
    """Events that got one decision here and another there."""

    before: str
    after: str


@dataclass(slots=True)
class Comparison:
    """Two pipelines side by side, each event counted once."""

    compared: int = 0
    not_by_both: int = 0
    """Decided by one of them, and not by the other yet, or never."""
    changed: Counter[Changed] = field(default_factory=Counter)
    degraded_before: int = 0
    degraded_after: int = 0
    differences: list[float] = field(default_factory=list)
    """Score of the changed pipeline minus score of the other, of events that are degraded in
    neither: where a stage was away, that is what makes the difference."""

    def add(self, before: Decision, after: Decision) -> None:
        """Take in an event that both have decided."""
        self.compared += 1
        self.degraded_before += before.degraded
        self.degraded_after += after.degraded
        # What chance has decided, of other coordinates, is no difference between pipelines.
        if before.by_policy != after.by_policy:
            self.changed[Changed(before.by_policy, after.by_policy)] += 1
        degraded = before.degraded or after.degraded
        if before.score is not None and after.score is not None and not degraded:
            self.differences.append(after.score - before.score)

    def summary(self) -> dict[str, object]:
        """All of it, for `--json`; no difference of scores where there is none to compare."""
        differences = np.array(self.differences)
        absolute = np.abs(differences)
        scores: dict[str, float] | None = None
        if len(differences):
            scores = {
                "mean": float(differences.mean()),
                "mean_absolute": float(absolute.mean()),
                "p99_absolute": float(np.quantile(absolute, 0.99)),
                "largest_absolute": float(absolute.max()),
            }
        return {
            "compared": self.compared,
            "not_decided_by_both": self.not_by_both,
            "changed": [
                {"from": each.before, "to": each.after, "events": events}
                for each, events in self.changed.most_common()
            ],
            "degraded": {"before": self.degraded_before, "after": self.degraded_after},
            "score_difference": scores,
        }


async def compare(
    settings: BrokerSettings, before: Pipeline, after: Pipeline, last: int
) -> Comparison:
    """Compare the *last* decisions about copies, of both pipelines, with those of the originals."""
    comparison, tail = Comparison(), TailReader(settings)
    await tail.start()
    try:
        for copies, originals in ((after, before), (before, after)):
            latest = await _latest_copies(tail, copies, Topology.of(originals).events, last)
            decided = await _decided(tail, originals, latest)
            for at, decision in latest.items():
                other = decided.get(at)
                if other is None:
                    comparison.not_by_both += 1
                elif copies is after:
                    comparison.add(other, decision)
                else:
                    comparison.add(decision, other)
    finally:
        await tail.stop()
    return comparison


_At = tuple[int, int]
"""Partition and offset of an event on the originals' events topic."""


async def _latest_copies(
    tail: TailReader, pipeline: Pipeline, events: str, last: int
) -> dict[_At, Decision]:
    """The *last* decisions of a pipeline about copies of *events*, by the original's place."""
    topology, latest = Topology.of(pipeline), dict[_At, Decision]()
    for partition in range(topology.partitions):
        _, end = await tail.bounds(topology.decisions, partition)
        start = max(0, end - -(-last // topology.partitions))
        for record in await tail.between(topology.decisions, partition, start, end):
            decision = _parsed(record)
            if decision and decision.origin and decision.origin.topic == events:
                latest[decision.origin.partition, decision.origin.offset] = decision
    return latest


async def _decided(
    tail: TailReader, pipeline: Pipeline, wanted: Iterable[_At]
) -> dict[_At, Decision]:
    """What a pipeline has decided of its own events in *wanted*."""
    decided = dict[_At, Decision]()
    offsets: dict[int, set[int]] = {}
    for partition, offset in wanted:
        offsets.setdefault(partition, set()).add(offset)
    for partition, those in offsets.items():
        last = max(those)
        reading = _from(tail, Topology.of(pipeline), partition, min(those))
        async with aclosing(reading) as decisions:
            async for decision in decisions:
                offset = decision.source.offset
                if offset in those:
                    decided[partition, offset] = decision
                if offset >= last:
                    break
    return decided


async def _from(
    tail: TailReader, topology: Topology, partition: int, offset: int
) -> AsyncGenerator[Decision]:
    """First attempts' decisions of a partition, from source offset *offset* or before it on."""
    first, end = await tail.bounds(topology.decisions, partition)
    while end - first > _NEAR:  # they stand in the order of their sources
        middle = (first + end) // 2
        at = next(iter(await _decisions(tail, topology, partition, middle)), None)
        if at is not None and at.source.offset < offset:
            first = middle
        else:
            end = middle
    async with aclosing(tail.chunks(topology.decisions, partition, first)) as chunks:
        async for records in chunks:
            for record in records:
                if (decision := _parsed(record)) is not None:
                    yield decision


async def _decisions(
    tail: TailReader, topology: Topology, partition: int, at: int
) -> list[Decision]:
    records = await tail.between(topology.decisions, partition, at, at + _GLANCE)
    return [decision for record in records if (decision := _parsed(record)) is not None]


def _parsed(record: ConsumerRecord) -> Decision | None:
    """A first attempt's decision; None for another record."""
    try:
        if attempt_of(record.headers) > 1:
            return None
        return Decision.model_validate_json(record.value or b"")
    except ValueError:  # pydantic's too
        return None
