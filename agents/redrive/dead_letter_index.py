"""The dead letters of a pipeline, and what became of them: the newest of each source record."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import Literal, NamedTuple

import orjson
from aiokafka.structs import ConsumerRecord

from agents.broker import follower, read_to_end
from agents.workers import TailReader
from topics.errors import AnabranchError, WireError
from topics.kafka import Headers
from topics.pipeline import WEIGH, Pipeline, Topology
from topics.records import dead_letter as dead_letters
from topics.redrive import MOST_ATTEMPTS, Ending, decode_redrive, producer_headers
from topics.settings import BrokerSettings

_PREFIX = dead_letters.PREFIX
_TOPIC, _PARTITION, _OFFSET = (f"{_PREFIX}{name}" for name in ("topic", "partition", "offset"))
_STAGE, _CLASS, _REASON = (f"{_PREFIX}{name}" for name in ("stage", "class", "reason"))
_ATTEMPT, _PUBLISHED = f"{_PREFIX}attempt", f"{_PREFIX}published-ms"
_ORIGINAL = f"{_PREFIX}original"
_BYTES, _DIGEST = f"{_PREFIX}{dead_letters.BYTES}", f"{_PREFIX}{dead_letters.DIGEST}"

_LONGEST_ID = 256

State = Literal["dead", "waiting", "healed", "given up", "no original"]


class DeadLetterNotFound(AnabranchError):
    """No dead letter is at that place."""

    def __init__(self, topic: str, place: str) -> None:
        super().__init__(
            f"{topic} has no dead letter at {place}; `anabranch dead-letters list` names them by "
            "PARTITION@OFFSET"
        )


class Coordinates(NamedTuple):
    """Partition and offset of a source record."""

    partition: int
    offset: int


class DeadLetter(NamedTuple):
    """One dead letter."""

    partition: int
    offset: int
    written_ms: int
    source: Coordinates
    attempt: int
    stage: str
    error: str
    reason: str
    original: str
    """Why the original record is not in it, or not whole; empty when it is."""
    published_ms: int
    event_id: str
    """Empty when the value does not say."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    """The original ones."""
    digest: str = ""
    """Of the original record, where only a part is in it: see
    `topics.records.original_digest`."""
    size: int = 0
    """Bytes of the original record, then."""

    @property
    def place(self) -> str:
        """Where it is on its topic, as commands take it."""
        return f"{self.partition}@{self.offset}"

    @classmethod
    def of(cls, record: ConsumerRecord, id_field: str, *, payload: bool = True) -> DeadLetter:
        """The dead letter of a record; KeyError or ValueError when it is none.

        Value and headers only with *payload*.
        """
        about = dict(record.headers)
        try:
            source = Coordinates(int(about[_PARTITION]), int(about[_OFFSET]))
            published_ms = int(about.get(_PUBLISHED, record.timestamp))
            attempt, size = int(about[_ATTEMPT]), int(about.get(_BYTES, 0))
            about[_TOPIC].decode()
        except (TypeError, AttributeError) as exc:  # a header's value may be null
            raise ValueError(f"not a dead letter: {exc}") from exc
        # What no redrive record can say would make all events that travel with it be refused.
        if not (
            0 <= source.partition < 2**31
            and 0 <= source.offset < 2**62
            and 1 <= attempt <= MOST_ATTEMPTS
            and abs(published_ms) <= 2**62
        ):
            raise ValueError("not a dead letter: a number of it cannot be")
        headers: Headers = []
        if payload:
            others = [h for h in record.headers if not h[0].startswith(dead_letters.PREFIX)]
            headers = producer_headers(others)
        return cls(
            record.partition, record.offset, record.timestamp, source, attempt,
            _text(about[_STAGE]), _text(about[_CLASS]), _text(about[_REASON]),
            _text(about.get(_ORIGINAL)), published_ms, event_id_of(record.value, id_field),
            record.key, record.value if payload else None, headers, _text(about.get(_DIGEST)), size,
        )  # fmt: skip


@lru_cache(maxsize=10_000)
def _text(content: bytes | None) -> str:
    """Many letters say the same: it is decoded, and held in memory, once."""
    return (content or b"").decode(errors="replace")


@dataclass(slots=True)
class DeadLetterIndex:
    """The newest dead letter of each source record, and all redrive records about it."""

    id_field: str
    newest: dict[Coordinates, DeadLetter] = field(default_factory=dict)
    endings: dict[tuple[Coordinates, int], Ending] = field(default_factory=dict)
    """Source and attempt → how that one ended."""
    last: dict[tuple[Coordinates, int], tuple[int, int]] = field(default_factory=dict)
    """Source and attempt → partition and offset, on the redrive topic, of the record that went to
    the weighting agent with all outputs."""
    waits_for: dict[tuple[Coordinates, int], tuple[int, str]] = field(default_factory=dict)
    """Source and attempt → when it was last written, and for which component."""

    def add_dead_letter(self, record: ConsumerRecord, *, payloads: bool) -> None:
        """Take in a record of the dead-letters topic; one that is not ours is left out."""
        try:
            letter = DeadLetter.of(record, self.id_field, payload=payloads)
        except (KeyError, ValueError):
            return
        known = self.newest.get(letter.source)
        if known is None or known.attempt < letter.attempt:
            self.newest[letter.source] = letter

    def add_redrive_record(self, record: ConsumerRecord) -> None:
        """Take in a record of the redrive topic; one that is not ours is left out."""
        try:
            batch = decode_redrive(record.key, record.value, record.headers, outputs=False)
        except WireError:
            return
        for event in batch.events:
            at = (Coordinates(event.partition, event.offset), event.attempt)
            if batch.end is not None:
                self.endings[at] = batch.end
                self.waits_for.pop(at, None)
            elif batch.next is not None:
                if at not in self.endings:
                    written = (record.timestamp, batch.next)
                    self.waits_for[at] = max(self.waits_for.get(at, (0, "")), written)
                if batch.next == WEIGH:
                    self.last[at] = (record.partition, record.offset)

    def state(self, letter: DeadLetter, attempts: int) -> State:
        """What is to be said of the newest letter of a source record."""
        again = (letter.source, letter.attempt + 1)
        if self.endings.get(again) == "decision":
            return "healed"
        if again in self.endings or again in self.waits_for:
            return "waiting"
        if letter.original and not letter.digest:
            return "no original"
        return "dead" if letter.attempt < min(attempts, MOST_ATTEMPTS) else "given up"

    def waiting_for(self, letter: DeadLetter) -> str:
        """The component that is to deal with its redrive record; empty when there is none."""
        return self.waits_for.get((letter.source, letter.attempt + 1), (0, ""))[1]

    def selected(self, reason: str | None, stage: str | None) -> list[DeadLetter]:
        """The newest letters of *stage* with *reason* in their class or reason, oldest first."""
        return sorted(
            (
                letter
                for letter in self.newest.values()
                if (stage is None or letter.stage == stage)
                and (reason is None or reason.lower() in f"{letter.error} {letter.reason}".lower())
            ),
            key=itemgetter(2, 0, 1),  # written_ms, partition, offset
        )


async def read_dead_letters(
    settings: BrokerSettings, pipeline: Pipeline, *, payloads: bool
) -> DeadLetterIndex:
    """What the dead-letters and redrive topics hold now; originals only with *payloads*."""
    letters, topology = DeadLetterIndex(pipeline.event.id), Topology.of(pipeline)
    topics = (topology.dead_letters, topology.redrive)
    async with follower(settings, topics, topology.partitions, from_start=True) as consumer:
        async for tp, records in read_to_end(consumer):
            for record in records:
                if tp.topic == topology.redrive:
                    letters.add_redrive_record(record)
                else:
                    letters.add_dead_letter(record, payloads=payloads)
    return letters


async def read_dead_letter(
    settings: BrokerSettings, topology: Topology, id_field: str, partition: int, offset: int
) -> DeadLetter:
    """One dead letter, whole. Raises DeadLetterNotFound."""
    topic, tail = topology.dead_letters, TailReader(settings)
    if partition >= topology.partitions:
        raise DeadLetterNotFound(topic, f"{partition}@{offset}")
    await tail.start()
    try:
        records = await tail.between(topic, partition, offset, offset + 1)
        return DeadLetter.of(records[0], id_field)
    except (IndexError, KeyError, ValueError) as exc:
        raise DeadLetterNotFound(topic, f"{partition}@{offset}") from exc
    finally:
        await tail.stop()


def event_id_of(value: bytes | None, field: str) -> str:
    """The id of an event that may not be valid; also inside a CloudEvent."""
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return ""
    for content in (event, event.get("data") if isinstance(event, dict) else None):
        if isinstance(content, dict) and field in content:
            return str(content[field])[:_LONGEST_ID]
    return ""
