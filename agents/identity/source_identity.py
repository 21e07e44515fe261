"""Whether a source topic is still the one whose records were dealt with.

What is made of source records names the source topic by its id, in a record header, as its worker
knew it when it started. A topic that was made anew has another id, however far it has grown: a
worker refuses it. Where the broker has no ids to tell, and for what was written before there was
such a header, the records themselves are compared: what is on the topics of each row (its source
offset, when it was published, its key and event id) with the source record at that offset now. The
newest rows alone would not do: a worker may have read the new topic for a while before that was
noticed. So the oldest that can be compared are looked at too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from topics.errors import TopicRecreated, WireError
from topics.events import epoch_ms
from topics.kafka import Headers, TopicIdentity
from topics.pipeline import Topology
from topics.records import Decision, attempt_of, decode, heartbeat_of, rfc3339_time

SOURCE_IDS = "x-source-ids"
"""Header of what is made of source records: `events=ID`, with outcomes also `outcomes=ID`."""

_RECORDS = 8
"""Of an output so many records are looked at."""
_MOST_AT_ONCE = 8192
_DECISION = "ce_id"
_NOWHERE = TP("", -1)
_ROWS = 16
"""Of one record's rows so many are compared."""
_APART = 100
"""Rows further apart than this are not compared at once: all between them would be read."""
_PLAIN = re.compile(rb"[\w.:-]+")
"""An event id that JSON writes as it is."""


class TopicReader(Protocol):
    """What tells of topics: `agents.workers.topic_tail.TailReader`."""

    async def identities(self, topics: Iterable[str]) -> Mapping[str, TopicIdentity | None]:
        """What the broker says of *topics*; None of one that does not exist."""

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """The first offset that is still there, and the next to be written."""

    async def between(
        self, topic: str, partition: int, start: int, end: int
    ) -> list[ConsumerRecord]:
        """The records with offsets in [start, end) that are still there."""


class Mark(NamedTuple):
    """What the topics say of a source record that was dealt with."""

    offset: int
    published_ms: int
    key: bytes
    """Empty where it is not known."""
    event_id: bytes
    """The same."""
    at_least: bool = False
    """It may have been published later than that: its latency counts as 0."""


def source_headers(
    identities: Mapping[str, TopicIdentity | None], sources: Sequence[str]
) -> Headers:
    """The header that names *sources* by their ids; none where an id is not known."""
    ids = []
    for topic in sources:
        identity = identities.get(topic)
        if identity is None or identity.id is None:
            return []
        ids.append(f"{_short(topic)}={identity.id}")
    return [(SOURCE_IDS, " ".join(ids).encode())] if ids else []


def headers_by_topic(
    topology: Topology, identities: Mapping[str, TopicIdentity | None]
) -> dict[str, Headers]:
    """What workers add to the records that they write, topic by topic."""
    events = source_headers(identities, [topology.events])
    headers = {topology.stage(name): events for name in topology.components}
    headers[topology.decisions] = events
    for name in topology.repartitioned:
        headers[topology.keyed(name)] = source_headers(identities, topology.sources_of(name))
    return headers


class Output(NamedTuple):
    """What one record says of the source records that it was made of."""

    source: TP
    ids: Mapping[str, str]
    """Source by its short name (`events`, `outcomes`) → the topic's id when this was made."""
    marks: Sequence[Mark]
    """Its rows, in the order of the source."""


async def check_identity(tail: TopicReader, source: TP, outputs: Iterable[TP]) -> None:
    """Raise TopicRecreated when *source* is not the topic that *outputs* were made of."""
    identity = (await tail.identities([source.topic])).get(source.topic)
    current = None if identity is None else identity.id
    for output in outputs:
        newest = await _newest(tail, output)
        earlier_ids = [output.ids.get(_short(source.topic)) for output in newest]
        if current is None or not any(earlier_ids):
            await _compare(tail, source, marks_of(newest, source))
            await _compare(tail, source, marks_of(await _oldest(tail, output), source, last=False))
        for earlier in earlier_ids:
            if None not in (earlier, current) and earlier != current:
                raise _recreated(
                    source,
                    f"{source.topic} has the id {current}, but {output.topic} was made of the "
                    f"topic of that name with the id {earlier}",
                )


async def _newest(tail: TopicReader, output: TP) -> list[Output]:
    """The last records of *output* with rows of the pipeline.

    Behind them may be what has no rows, is somebody else's, or a transaction's marker.
    """
    first, end = await tail.bounds(output.topic, output.partition)
    back = _RECORDS
    while end > first:
        start = max(first, end - back)
        records = await tail.between(output.topic, output.partition, start, end)
        if outputs := [output for output in map(output_of, records) if output is not None]:
            return outputs[-_RECORDS:]
        end, back = start, min(back * 4, _MOST_AT_ONCE)
    return []


async def _oldest(tail: TopicReader, output: TP) -> list[Output]:
    """Of the first records of *output* those with rows of the pipeline."""
    first, _ = await tail.bounds(output.topic, output.partition)
    records = await tail.between(output.topic, output.partition, first, first + _RECORDS)
    return [output for output in map(output_of, records) if output is not None]


def _short(topic: str) -> str:
    return topic.rpartition(".")[2]


def marks_of(outputs: Iterable[Output], source: TP, *, last: bool = True) -> list[Mark]:
    """What *outputs* say of rows of *source*: of the last of them, or of the first."""
    marks = {
        mark.offset: mark for output in outputs if output.source == source for mark in output.marks
    }
    ordered = [marks[offset] for offset in sorted(marks)]
    if last:
        return [mark for mark in ordered[-_ROWS:] if mark.offset > ordered[-1].offset - _APART]
    return [mark for mark in ordered[:_ROWS] if mark.offset < ordered[0].offset + _APART]


def output_of(record: ConsumerRecord) -> Output | None:
    """What a stage batch, a heartbeat or a decision says of its source; None for other records.

    A heartbeat tells when it comes from a worker that has compared the source, and names its id.
    """
    try:
        headers = dict(record.headers)
        ids = (headers.get(SOURCE_IDS) or b"").decode()
        known = dict(name_and_id.split("=", 1) for name_and_id in ids.split())
        if (heartbeat := heartbeat_of(record.value, headers)) is not None:
            has_compared = heartbeat.frontier >= 0
            return Output(_NOWHERE, known, ()) if known and has_compared else None
        source, marks = (
            _marks_of_decision(record) if _DECISION in headers else _marks_of_batch(record)
        )
        return Output(source, known, marks)
    except (WireError, ValueError):  # pydantic's is a ValueError
        return None


def _marks_of_batch(record: ConsumerRecord) -> tuple[TP, list[Mark]]:
    batch = decode(record.value, dict(record.headers))
    rows = batch.rows
    columns = (
        rows.offsets.tolist(),
        rows.published_ms.tolist(),
        rows.keys.items(),
        rows.ids.items(),
    )
    return TP(batch.topic, batch.partition), [Mark(*row) for row in zip(*columns, strict=True)]


def _marks_of_decision(record: ConsumerRecord) -> tuple[TP, list[Mark]]:
    decision = Decision.model_validate_json(record.value or b"")
    source = decision.source
    published_ms = epoch_ms(decision.decided_at) - int(decision.latency_ms)
    edited = attempt_of(record.headers) > 1  # a redriven event may have been mended
    key, event_id = (b"", b"") if edited else (record.key or b"", decision.event_id.encode())
    at_least = decision.latency_ms == 0
    mark = Mark(source.offset, published_ms, key, event_id, at_least=at_least)
    return TP(source.topic, source.partition), [mark]


async def _compare(tail: TopicReader, source: TP, marks: Sequence[Mark]) -> None:
    """Raise TopicRecreated when a source record is another than its mark says.

    What retention or compaction has removed is no sign of anything.
    """
    if not marks:
        return
    records = await tail.between(
        source.topic, source.partition, marks[0].offset, marks[-1].offset + 1
    )
    now = {record.offset: record for record in records}
    for mark in marks:
        if mark.offset in now and (difference := difference_from(mark, now[mark.offset])):
            raise _recreated(
                source,
                f"{source.topic}[{source.partition}]@{mark.offset} is not the record that was "
                f"dealt with: {difference}",
            )


def _recreated(source: TP, evidence: str) -> TopicRecreated:
    return TopicRecreated(source.topic, evidence, source.topic.rpartition(".")[0])


def difference_from(mark: Mark, record: ConsumerRecord) -> str | None:
    """What of *record* is not as *mark* says; None when it is the record that was dealt with."""
    published_ms: int = record.timestamp
    same_time = (
        published_ms >= mark.published_ms if mark.at_least else published_ms == mark.published_ms
    )
    if not same_time:
        then, now = rfc3339_time(mark.published_ms), rfc3339_time(published_ms)
        return f"that was published at {then}, this at {now}"
    if mark.key and record.key and mark.key != record.key:
        return f"that had the key {mark.key!r}, this has {record.key!r}"
    # What an event's id is depends on the pipeline file of the time: it is only looked for.
    if _PLAIN.fullmatch(mark.event_id) and mark.event_id not in (record.value or b""):
        return f"that was the event {mark.event_id.decode()}, which this does not name"
    return None
