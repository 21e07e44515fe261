"""Redrive records: dead letters on their way through the pipeline again, and where each goes next.

This is the whole redrive protocol; the modules that play a part in it refer to here.

*What travels.* A dead letter of attempt n at an event is redriven as attempt n + 1. The command
writes a record to `<pipeline>.redrive`: the original record (key, value, headers), an `x-redrive`
header (`RedriveHeader`), and an `x-redrive-output` header for each output that is known of the
event already. Known is what the stage topics hold of the first attempt, or what travelled with
the last one; nothing where the value was edited. (`agents.redrive.preparation`, `.sender`)

*Who answers.* Every component reads the redrive topic beside its sources, and deals with what is
addressed to it (`next`): it adds its output, or says that it is absent, and writes the record on to
the first component that has no output yet, in the flow's order, and at last to the weighting agent.
A record stands on the source's partition; one to a repartitioned component on that of its key.
Live events come first. What cannot be dealt with yet is put aside, and those behind it go on.
What was redriven is not remembered by windows. (`agents.redrive.component_redrive`)

*How an attempt ends.* The weighting agent writes a decision or another dead letter, both of which
name the attempt, and behind it an ending record: the `x-redrive` header with `end` instead of
`next`. Now and then a summary of them follows (`topics.redrive.endings`), which bounds what is read
at a start. (`agents.weigh.redrive_completion`, `agents.redrive.attempt_endings`)

Invariants:
- An attempt ends once. Every record may come twice, also of two operators: offsets are committed
  when all before them are dealt with. So the weighting agent ends an attempt only if it knows of no
  end of it, or of a later one, and no attempt at the event is decided: an event has one decision.
- The ending record is the last that is written. So an end without one is found, after a crash, on
  the decisions and dead-letters topics, which are read from a minute before the last of them on.
- Only what is dead is redriven: the dead letter at the offset that the record names has to be about
  its event and the attempt before; one that retention has deleted is taken on trust.
- Nothing gets lost on the way: a record that has grown too large for the topic goes to the
  weighting agent without its payload, and ends in a dead letter (`RecordTooLarge`).

*When the pipeline has changed meanwhile* the record says what it lacks: a component that is new has
no output in it, so whoever passes it on next sends it there; one that has come to the weighting
agent ends with what it has. One to a component that is gone is sent on by the weighting agent,
which reads all records of its partitions. What is no redrive record, has another pipeline's source,
or stands on a partition where its component does not read it, is skipped, logged and counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from topics.errors import WireError
from topics.events import EventDecoder
from topics.kafka import Headers, Record
from topics.pipeline import EVENTS, WEIGH, Pipeline, Topology, in_order, lane_of
from topics.records import Source, StageBatch
from topics.redrive.outputs import RedriveOutputs, component_of, contents_of

PREFIX = "x-redrive"
OUTPUT = f"{PREFIX}-output"
REFUSED = f"{PREFIX}-refused"

Ending = Literal["decision", "dead-letter"]
_Milliseconds = Annotated[int, Field(ge=-(2**62), le=2**62)]


class RedriveHeader(BaseModel):
    """What the `x-redrive` header says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    source: Source
    """The event's identity, as in every dead letter and decision."""
    letter: Annotated[int, Field(ge=0, lt=2**63)]
    """Offset of the dead letter that is redriven, in the source's partition."""
    attempt: Annotated[int, Field(ge=2, le=1000)]
    """The first was the event's ordinary way through the pipeline."""
    published_ms: _Milliseconds
    """Timestamp of the source record."""
    next: Annotated[str, Field(min_length=1, max_length=63)] | None
    """The component that is to deal with it; None in an ending record."""
    end: Ending | None = None

    @model_validator(mode="after")
    def _ends_or_goes_on(self) -> Self:
        if (self.next is None) == (self.end is None):
            raise ValueError("a redrive record has a next component or an end")
        return self


@dataclass(frozen=True, slots=True)
class RedriveRecord:
    """A source record on its way again; it reads like a record of the events topic."""

    header: RedriveHeader
    """Of the redrive topic; the others are `headers`."""
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    """Those of the source record."""
    outputs: Mapping[str, StageBatch] = field(default_factory=dict)
    """Of one row each, by component; absent in it where the component failed."""
    refused: str | None = None
    """Why it goes no further, and is to end in another dead letter: it has grown too large."""

    @property
    def offset(self) -> int:
        """The source offset."""
        return self.header.source.offset

    @property
    def partition(self) -> int:
        """The source partition."""
        return self.header.source.partition

    @property
    def timestamp(self) -> int:
        """When the source record was published, in milliseconds."""
        return self.header.published_ms

    def to(self, component: str) -> RedriveRecord:
        """The same redrive record, addressed to *component*."""
        return replace(self, header=self.header.model_copy(update={"next": component}))

    def with_output(self, batch: StageBatch) -> RedriveRecord:
        """The redrive record with one more output."""
        (content,) = contents_of(batch)
        return self.with_content(batch.component, content)

    def with_content(self, component: str, content: bytes) -> RedriveRecord:
        """The redrive record with one more output, which is encoded already."""
        known = RedriveOutputs.of(self.outputs)
        return replace(self, outputs=known.with_content(component, content))

    def refusal(self, reason: str) -> RedriveRecord:
        """It goes to the weighting agent without all that may be large, to be ended there."""
        return RedriveRecord(self.to(WEIGH).header, None, None, refused=reason)

    def ending(self, end: Ending) -> RedriveRecord:
        """The ending record: the attempt has ended so."""
        return RedriveRecord(self.header.model_copy(update={"next": None, "end": end}), None, None)


def encode_redrive(redrive: RedriveRecord, now_ms: int) -> Record:
    """The record as it stands on the topic."""
    headers: Headers = producer_headers(redrive.headers)
    headers.append((PREFIX, redrive.header.model_dump_json().encode()))
    # As JSON: every output that is present is finite, and people can read what is known.
    contents = RedriveOutputs.of(redrive.outputs).contents
    headers += [(OUTPUT, content) for content in contents.values()]
    if redrive.refused is not None:
        headers.append((REFUSED, redrive.refused.encode()))
    return Record(redrive.key, redrive.value, now_ms, headers)


def decode_redrive(
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
) -> RedriveRecord:
    """What a record of the redrive topic says; WireError, with the reason, for anything else."""
    redrive = open_redrive(key, value, headers)
    of = redrive.header.source
    for batch in redrive.outputs.values():
        if (batch.topic, batch.partition, *batch.rows.offsets.tolist()) != (
            of.topic, of.partition, of.offset,
        ):  # fmt: skip
            raise WireError(
                f"not a redrive record: its output of {batch.component} is of another event"
            )
    return redrive


def open_redrive(
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
) -> RedriveRecord:
    """Like `decode_redrive`, but outputs are not looked at: asking for one may raise WireError."""
    header = redrive_header(headers)
    outputs = {component_of(content): content for name, content in headers if name == OUTPUT}
    refused = next((content for name, content in headers if name == REFUSED), None)
    return RedriveRecord(
        header, key, value, producer_headers(headers), RedriveOutputs(outputs),
        None if refused is None else refused.decode(errors="replace"),
    )  # fmt: skip


def next_component(headers: Sequence[tuple[str, bytes]]) -> str | None:
    """Whom a redrive record is addressed to, as far as it says; None for anything else.

    It costs a tenth of `redrive_header`: every component reads all records of its partitions.
    """
    for name, content in headers:
        if name == PREFIX:
            try:
                header = orjson.loads(content or b"")
            except orjson.JSONDecodeError:
                return None
            component = header.get("next") if isinstance(header, dict) else None
            return component if isinstance(component, str) else None
    return None


def redrive_header(headers: Sequence[tuple[str, bytes]]) -> RedriveHeader:
    """What the `x-redrive` header says; WireError, with the reason, where there is none."""
    contents = [content for name, content in headers if name == PREFIX]
    if len(contents) != 1:
        raise WireError(f"not a redrive record: {len(contents)} {PREFIX} headers")
    try:
        return RedriveHeader.model_validate_json(contents[0] or b"")
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, error["loc"]))
        why = ": ".join(filter(None, [where, error["msg"]]))
        raise WireError(f"not a redrive record: {why}") from exc


def producer_headers(headers: Sequence[tuple[str, bytes]]) -> Headers:
    """The headers that the event's producer sent."""
    return [(name, content) for name, content in headers if not name.startswith(PREFIX)]


class RedriveRoute:
    """Says which component comes next, and on which partition that one reads it."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._topology = Topology.of(pipeline)
        self._order = in_order(pipeline)
        self._events = EventDecoder(pipeline.event)

    def onward(self, redrive: RedriveRecord) -> RedriveRecord:
        """The record addressed to the first component without an output; then to `weigh`."""
        missing = (name for name in self._order if name not in redrive.outputs)
        return redrive.to(next(missing, WEIGH))

    def knows(self, component: str) -> bool:
        """The pipeline has such a component."""
        return component == WEIGH or component in self._order

    def partition(self, redrive: RedriveRecord) -> int:
        """The source's partition; for a repartitioned component, that of its key."""
        return self.partitions([redrive])[0]

    def partitions(self, redrives: Sequence[RedriveRecord]) -> list[int]:
        """The partition of each record (N), see `partition`."""
        partitions = [redrive.partition for redrive in redrives]
        by_key = defaultdict[str, list[int]](list)
        for place, redrive in enumerate(redrives):
            if redrive.header.next in self._topology.repartitioned:
                by_key[redrive.header.next].append(place)
        for name, places in by_key.items():
            decoded = self._events.decode([redrives[place] for place in places])
            entities = decoded.columns[self._pipeline.entity(name)].tolist()
            for row, entity in zip(decoded.valid.tolist(), entities, strict=True):
                partitions[places[row]] = lane_of(str(entity), self._topology.partitions)
        return partitions

    def reusable(self, outputs: Mapping[str, StageBatch]) -> RedriveOutputs:
        """Outputs that need not be made again: they are there, and all they were made of too."""
        known, reused = RedriveOutputs.of(outputs), set[str]()
        for name in self._order:
            inputs = {*self._pipeline.component(name).inputs} - {EVENTS}
            if inputs <= reused and known.is_present(name):
                reused.add(name)
        return known.only([name for name in self._order if name in reused])
