"""Outcomes that died for want of a decision, published again once it is there; counted once.

A letter's record goes back onto `<pipeline>.outcomes` as it was: the same partition, key, value and
time, so it has the same rank as before. Its header OUTCOME_REDRIVE names the coordinates of the
record that died: components with windows of outcomes have taken that in already, whatever became of
it, and pass over this one; for all others it is the same outcome again, which replaces itself. What
has been published again already is not once more, as the topic says by these headers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from agents.broker import topic_names
from agents.workers import TailReader
from topics.events import OutcomeDecoder, epoch_ms
from topics.kafka import Record, client_options, close_client, write_batches
from topics.pipeline import Pipeline, Topology, outcomes_kept_ms
from topics.records import NO_DECISION, NO_ROOM, OUTCOME_REDRIVE, error_of_letter
from topics.records import dead_letter as dead_letters
from topics.settings import BrokerSettings

MOST_LETTERS = 1_000_000
"""So many wait in memory at most: the oldest."""

Coordinates = tuple[int, int]
"""Partition and offset of the record that died."""


@dataclass(slots=True)
class OutcomeRedrive:
    """What becomes of the dead letters of outcomes."""

    letters: int = 0
    ready: int = 0
    """Published again; of a dry run, what would be."""
    undecided: int = 0
    """No decision about their event is there yet."""
    too_old: int = 0
    """There is one, but of an event older than a monitor keeps decisions (outcomes: keep)."""
    redriven: int = 0
    """They were published again before."""
    refused: Counter[str] = field(default_factory=Counter)
    """Error → letters of what is no outcome, or not whole: nothing can be done with these here."""


@dataclass(slots=True)
class _Letter:
    at: Coordinates
    record: Record
    event_ms: int


async def redrive_outcomes(
    settings: BrokerSettings, pipeline: Pipeline, tail: TailReader, *, dry_run: bool = False
) -> OutcomeRedrive:
    """Publish again what can be. Raises BrokerError, KafkaError."""
    topology, said = Topology.of(pipeline), OutcomeRedrive()
    if topology.outcome_letters not in await topic_names(settings, [topology.outcome_letters]):
        return said
    by_key = pipeline.event.keys != "rekey"
    waiting = await _letters(pipeline, topology, tail, said, by_key=by_key)
    await _without_redriven(topology, tail, waiting, said)
    ready = await _decided(pipeline, topology, tail, waiting, said, by_key=by_key)
    said.ready = len(ready)
    said.undecided = sum(map(len, waiting.values()))
    if ready and not dry_run:
        await _publish(settings, topology, ready)
    return said


async def _letters(
    pipeline: Pipeline, topology: Topology, tail: TailReader, said: OutcomeRedrive, *, by_key: bool
) -> dict[tuple[str, str], list[_Letter]]:
    """Event → the letters about it, of those that a decision could help."""
    decoder, waiting = OutcomeDecoder(pipeline), dict[tuple[str, str], list[_Letter]]()
    async for _, record in _records(topology, tail, topology.outcome_letters):
        said.letters += 1
        error = error_of_letter(record.headers) or "NoLetter"
        if error not in (NO_DECISION, NO_ROOM):
            said.refused[error] += 1
            continue
        try:
            _, partition, offset = dead_letters.source_of(record.headers)
            published_ms = int(dict(record.headers)[f"{dead_letters.PREFIX}published-ms"])
        except (KeyError, ValueError):
            said.refused["NoLetter"] += 1
            continue
        if not 0 <= partition < topology.partitions or record.value is None:
            said.refused["NotWhole"] += 1
            continue
        original = _Original(record.key, record.value, published_ms, partition, offset)
        decoded = decoder.decode([original], partition)
        if not len(decoded):
            said.refused[decoded.failures[0].error] += 1
            continue
        name = decoded.ids[0], decoded.keys[0] if by_key else ""
        headers = [(OUTCOME_REDRIVE, f"{partition}/{offset}".encode())]
        again = Record(record.key, record.value, published_ms, headers)
        if said.letters <= MOST_LETTERS:
            letter = _Letter((partition, offset), again, int(decoded.event_ms[0]))
            waiting.setdefault(name, []).append(letter)
    return waiting


@dataclass(frozen=True, slots=True)
class _Original:
    """The record that died, as its letter repeats it."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    partition: int
    offset: int
    headers: tuple[tuple[str, bytes], ...] = ()


async def _without_redriven(
    topology: Topology, tail: TailReader, waiting: dict[Any, list[_Letter]], said: OutcomeRedrive
) -> None:
    """Leave out what the topic of outcomes has again already, and letters of one record but one."""
    before = set[bytes]()
    async for _, record in _records(topology, tail, topology.outcomes):
        before |= {value for name, value in record.headers if name == OUTCOME_REDRIVE and value}
    for name, letters in [*waiting.items()]:
        new = dict[Coordinates, _Letter]()
        for letter in letters:
            if f"{letter.at[0]}/{letter.at[1]}".encode() in before:
                said.redriven += 1
            else:
                new[letter.at] = letter
        if new:
            waiting[name] = [*new.values()]
        else:
            del waiting[name]


async def _decided(
    pipeline: Pipeline, topology: Topology, tail: TailReader,
    waiting: dict[tuple[str, str], list[_Letter]], said: OutcomeRedrive, *, by_key: bool,
) -> list[_Letter]:  # fmt: skip
    """Letters whose event is decided, and not too long ago; they wait no more."""
    found, clock_ms = list[_Letter](), -1
    async for _, record in _records(topology, tail, topology.decisions):
        try:
            decision = orjson.loads(record.value or b"")
            name = str(decision["event_id"]), (record.key or b"").decode() if by_key else ""
            clock_ms = max(clock_ms, epoch_ms(str(decision["event_time"])))
        except (KeyError, TypeError, ValueError):  # no decision of ours
            continue
        found += waiting.pop(name, [])
    oldest_ms = clock_ms - outcomes_kept_ms(pipeline)
    ready = [letter for letter in found if letter.event_ms >= oldest_ms]
    said.too_old += len(found) - len(ready)
    return ready


async def _publish(settings: BrokerSettings, topology: Topology, ready: list[_Letter]) -> None:
    producer = AIOKafkaProducer(**client_options(settings), acks="all", enable_idempotence=True)
    try:
        await producer.start()
        for partition in range(topology.partitions):
            own = sorted((each for each in ready if each.at[0] == partition), key=lambda e: e.at)
            if own:
                records = [each.record for each in own]
                await write_batches(producer, topology.outcomes, partition, records)
    finally:
        await close_client(producer)


async def _records(
    topology: Topology, tail: TailReader, topic: str
) -> AsyncIterator[tuple[int, ConsumerRecord]]:
    """All records of a topic up to what is its end now, with their partitions."""
    for partition in range(topology.partitions):
        first, end = await tail.bounds(topic, partition)
        if first >= end:
            continue
        async with aclosing(tail.between_chunks(topic, partition, first, end)) as chunks:
            async for records in chunks:
                for record in records:
                    yield partition, record
