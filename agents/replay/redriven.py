"""Decisions about events that were redriven, made again from what travelled with them.

Their windows were those of the time of the redrive, so all outputs are taken as they are recorded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import aclosing

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.redrive import joined_rows
from agents.replay.decisions import DecisionReplay, fields_of
from agents.replay.pinned_versions import PinnedVersions, needed_by, provenance_of
from agents.replay.recorded_range import SourceRange
from agents.replay.report import GONE, REDRIVEN, Difference, Tally
from agents.workers import TailReader
from topics.errors import WireError
from topics.pipeline import WEIGH, Topology
from topics.records import Provenance, Source, attempt_at
from topics.redrive import RedriveBatch, decode_redrive

_Attempt = tuple[int, int]
"""Source offset, and which attempt at the event."""


async def replay_redriven(
    tail: TailReader, topology: Topology, pins: PinnedVersions, tally: Tally, of: SourceRange
) -> None:
    """Make the decisions of later attempts at the range's events again, and count them."""
    decisions = await _later_decisions(tail, topology, tally, of)
    if not decisions:
        return
    replay = DecisionReplay(pins)
    chunks = tail.chunks(topology.redrive, of.partition, 0)
    async with aclosing(chunks):
        async for records in chunks:
            for record in records:
                batch = _weighed(record, topology, of)
                if batch is not None:
                    _decide(batch, decisions, replay, pins, tally)
    tally.decisions += len(decisions)
    first, _ = await tail.bounds(topology.redrive, of.partition)
    if first == 0:  # nothing is gone from there
        tally.different += len(decisions)
        for offset, attempt in decisions:
            _differ(tally, topology, of.partition, offset, f"of attempt {attempt}",
                    "no such attempt was made")  # fmt: skip
        return
    tally.partly_taken += len(decisions)
    tally.taken[GONE] += len(decisions)


async def _later_decisions(
    tail: TailReader, topology: Topology, tally: Tally, of: SourceRange
) -> dict[_Attempt, ConsumerRecord]:
    """By source offset and attempt; there is one of each."""
    decisions: dict[_Attempt, ConsumerRecord] = {}
    chunks = tail.chunks(topology.decisions, of.partition, 0)
    async with aclosing(chunks):
        async for records in chunks:
            for record in records:
                try:
                    offset, attempt = attempt_at(record, is_decision=True)
                except (KeyError, ValueError):  # others' records
                    continue
                if attempt == 1 or not of.start <= offset < of.end:
                    continue
                if decisions.setdefault((offset, attempt), record) is not record:
                    tally.repeated += 1
                    again = f"of attempt {attempt}, again at offset {record.offset}"
                    _differ(tally, topology, of.partition, offset, again, "one of that attempt")
    return decisions


def _weighed(record: ConsumerRecord, topology: Topology, of: SourceRange) -> RedriveBatch | None:
    """What came to the weighting agent of the partition's events."""
    try:
        batch = decode_redrive(record.key, record.value, record.headers)
    except WireError:
        return None
    about = (batch.topic, batch.partition) == (topology.events, of.partition)
    return batch if about and batch.next == WEIGH and batch.refused is None else None


def _decide(
    batch: RedriveBatch, decisions: dict[_Attempt, ConsumerRecord], replay: DecisionReplay,
    pins: PinnedVersions, tally: Tally,
) -> None:  # fmt: skip
    attempts = [(event.offset, event.attempt) for event in batch.events]
    rows = [row for row, attempt in enumerate(attempts) if attempt in decisions]
    if not rows:
        return
    batch = batch.picked(np.array(rows, np.int64))
    wanted: Mapping[int, ConsumerRecord] = {
        row: decisions.pop((event.offset, event.attempt)) for row, event in enumerate(batch.events)
    }
    by_inputs: dict[tuple[str, ...], dict[int, ConsumerRecord]] = defaultdict(dict)
    for row, record in wanted.items():
        provenance = _provenance(record)
        tally.unnamed += provenance is None
        with needed_by(batch.topic, batch.partition, [batch.events[row].offset]):
            by_inputs[tuple(pins.file(provenance).pipeline.weighting.inputs)][row] = record
    wrong = 0
    for inputs, records in by_inputs.items():
        joined = joined_rows(batch, inputs)
        with needed_by(batch.topic, batch.partition, joined.rows.offsets):
            result = replay.decide(batch.partition, joined.rows, joined.stages, records)
        for row, where, before, now in result.differences:
            source = Source(
                topic=batch.topic, partition=batch.partition, offset=batch.events[row].offset
            )
            tally.differ(
                Difference(source=source, stage=WEIGH, field=where, recorded=before, recomputed=now)
            )
        wrong += len(result.differences)
    tally.decisions += len(rows)
    tally.different += wrong
    tally.partly_taken += len(rows) - wrong
    tally.taken[REDRIVEN] += len(rows) - wrong


def _provenance(record: ConsumerRecord) -> Provenance | None:
    """None for what is no decision, too: it will be found to be none."""
    try:
        return provenance_of(fields_of(record))
    except ValueError:
        return None


def _differ(
    tally: Tally, topology: Topology, partition: int, offset: int, recorded: str, now: str
) -> None:
    source = Source(topic=topology.events, partition=partition, offset=offset)
    tally.differ(
        Difference(source=source, stage=WEIGH, field="decision", recorded=recorded, recomputed=now)
    )
