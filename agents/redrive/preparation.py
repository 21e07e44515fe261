"""From dead letters to redrive records: which can go, with which value, and what is known already.

The first part of the protocol in `topics.redrive.record`. A letter is due by its state (`due`); its
value may be mended with a jq program (`Edit`), and has to be a valid event then; outputs that the
stages have made of it before, and that need not be made again, go with it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from agents.redrive.dead_letter_index import Coordinates, DeadLetter, DeadLetterIndex, State
from agents.workers import TailReader, ranges
from topics.errors import AnabranchError, MissingExtra, WireError
from topics.events import EventDecoder
from topics.pipeline import WEIGH, Pipeline, Topology
from topics.records import Source, StageBatch, decode, original_digest
from topics.redrive import (
    RedriveHeader,
    RedriveOutputs,
    RedriveRecord,
    RedriveRoute,
    contents_of,
    open_redrive,
)

AT_ONCE = 5000
"""So many letters are held in memory with their originals and outputs."""
_SLACK_MS = 60_000
"""Clocks of producers and workers may differ by so much."""

Outputs = Mapping[Coordinates, Mapping[str, StageBatch]]
"""Source record → component → its output of one row."""


class BadFilter(AnabranchError):
    """The program of --edit is not jq."""

    def __init__(self, program: str, cause: str) -> None:
        super().__init__(f"--edit {program!r} is no jq program: {cause.strip().splitlines()[0]}")


class EditFailed(AnabranchError):
    """The filter makes no event of one value."""


class Edit:
    """A compiled jq program. Raises MissingExtra, or BadFilter."""

    def __init__(self, program: str) -> None:
        try:
            import jq
        except ImportError as exc:
            raise MissingExtra("--edit", "redrive") from exc
        try:
            self._program: Any = jq.compile(program)
        except ValueError as exc:
            raise BadFilter(program, str(exc)) from exc

    def __call__(self, value: bytes | None) -> bytes:
        """The edited value; EditFailed unless it is JSON and comes out as exactly one object."""
        try:
            results = self._program.input_text((value or b"").decode()).all()
        except ValueError as exc:  # UnicodeDecodeError is one too
            raise EditFailed(f"the filter fails: {exc}") from exc
        if len(results) != 1 or not isinstance(results[0], dict):
            kinds = ", ".join(type(result).__name__ for result in results) or "nothing"
            raise EditFailed(f"the filter yields {kinds}, not one object")
        return orjson.dumps(results[0])


@dataclass(slots=True)
class Selection:
    """What of the chosen dead letters can be redriven."""

    ready: list[DeadLetter] = field(default_factory=list)
    """With the values they go with."""
    edited: bool = False
    unfit: list[tuple[DeadLetter, str]] = field(default_factory=list)
    """Those that would only die again, and why."""


def due(
    letters: DeadLetterIndex, chosen: Sequence[DeadLetter], *, attempts: int, again: bool
) -> tuple[list[DeadLetter], Counter[State]]:
    """Those of *chosen* that are to go by their state, and the states of the others."""
    going: list[DeadLetter] = []
    skipped: Counter[State] = Counter()
    for letter in chosen:
        state = letters.state(letter, attempts)
        if state == "dead" or (again and state == "waiting"):
            going.append(letter)
        else:
            skipped[state] += 1
    return going, skipped


def validated(pipeline: Pipeline, whole: Sequence[DeadLetter], edit: Edit | None) -> Selection:
    """Edit letters, which are here with their originals, and validate what they go with."""
    selection = Selection(edited=edit is not None)
    edited: list[tuple[DeadLetter, DeadLetter]] = []
    for letter in whole:
        try:
            going = letter if edit is None else letter._replace(value=edit(letter.value))
        except EditFailed as exc:
            selection.unfit.append((letter, str(exc)))
        else:
            edited.append((letter, going))
    failures = EventDecoder(pipeline.event).decode([going for _, going in edited]).failures
    reasons = {failure.row: failure.reason for failure in failures}
    for row, (letter, going) in enumerate(edited):
        if row in reasons:
            selection.unfit.append((letter, f"it is no valid event: {reasons[row]}"))
        else:
            selection.ready.append(going)
    return selection


def redrive_records(
    pipeline: Pipeline, selection: Selection, outputs: Outputs
) -> list[RedriveRecord]:
    """The redrive records of a selection, each addressed to the first stage that has to compute."""
    topology, route = Topology.of(pipeline), RedriveRoute(pipeline)
    records = []
    for letter in selection.ready:
        known: Mapping[str, StageBatch] = outputs.get(letter.source, {})
        source = Source(
            topic=topology.events, partition=letter.source.partition, offset=letter.source.offset
        )
        header = RedriveHeader(
            source=source, letter=letter.offset, attempt=letter.attempt + 1,
            published_ms=letter.published_ms, next=WEIGH,
        )  # fmt: skip
        outputs_of = {} if selection.edited else route.reusable(known)
        redrive = RedriveRecord(header, letter.key, letter.value, letter.headers, outputs_of)
        records.append(route.onward(redrive))
    return records


class RedrivePlanner:
    """Reads what chosen dead letters need to be redriven, some at a time."""

    def __init__(self, tail: TailReader, pipeline: Pipeline, letters: DeadLetterIndex) -> None:
        self._tail = tail
        self._pipeline = pipeline
        self._topology = Topology.of(pipeline)
        self._letters = letters

    async def selections(
        self, chosen: Sequence[DeadLetter], edit: Edit | None, *, most: int | None
    ) -> AsyncIterator[Selection]:
        """*chosen* letters with their originals, edited and validated; *most* that go in all."""
        left = most
        for start in range(0, len(chosen), AT_ONCE):
            whole, missing = await self._whole(chosen[start : start + AT_ONCE])
            selection = validated(self._pipeline, whole, edit)
            selection.unfit += missing
            selection.ready = selection.ready[:left]
            yield selection
            if left is not None and (left := left - len(selection.ready)) <= 0:
                return

    async def redrive_records(self, selection: Selection) -> list[RedriveRecord]:
        """The redrive records of a selection, with what is known of their events."""
        outputs: dict[Coordinates, Mapping[str, StageBatch]] = {}
        if not selection.edited:
            first = [letter for letter in selection.ready if letter.attempt == 1]
            outputs |= await find_outputs(self._tail, self._topology, first)
            later = [letter for letter in selection.ready if letter.attempt > 1]
            outputs |= await self._outputs_of_last_attempts(later)
        return redrive_records(self._pipeline, selection, outputs)

    async def _whole(
        self, chosen: Sequence[DeadLetter]
    ) -> tuple[list[DeadLetter], list[tuple[DeadLetter, str]]]:
        """Letters with their originals, and those whose originals cannot be had, and why."""
        places = [(letter.partition, letter.offset) for letter in chosen]
        wanted = set(places)
        by_place: dict[tuple[int, int], DeadLetter] = {}
        topic = self._topology.dead_letters
        for partition, start, end in _ranges(places):
            for record in await self._tail.between(topic, partition, start, end):
                if (place := (record.partition, record.offset)) in wanted:
                    by_place[place] = DeadLetter.of(record, self._letters.id_field)
        whole: list[DeadLetter] = []
        missing: list[tuple[DeadLetter, str]] = []
        for letter, place in zip(chosen, places, strict=True):
            if place not in by_place:
                missing.append((letter, "the dead letter is no longer on its topic"))
                continue
            whole_letter = by_place[place]
            if not whole_letter.digest:
                whole.append(whole_letter)
                continue
            original = await self._original(whole_letter)
            if isinstance(original, str):
                missing.append((letter, original))
            else:
                whole.append(original)
        return whole, missing

    async def _original(self, letter: DeadLetter) -> DeadLetter | str:
        """A letter that was cut, whole again; or why it cannot be had."""
        topic, (partition, offset) = self._topology.events, letter.source
        records = await self._tail.between(topic, partition, offset, offset + 1)
        if not records:
            return f"it was cut, and {topic}[{partition}]@{offset} is no longer there"
        record = records[0]
        if original_digest(record.key, record.value, record.headers) != letter.digest:
            return f"it was cut, and {topic}[{partition}]@{offset} is another record now"
        return letter._replace(key=record.key, value=record.value, headers=[*record.headers])

    async def _outputs_of_last_attempts(
        self, later: Sequence[DeadLetter]
    ) -> dict[Coordinates, Mapping[str, StageBatch]]:
        """What travelled with the redrive records that ended in letters of attempts > 1."""
        at = {
            place: letter.source
            for letter in later
            if (place := self._letters.last.get((letter.source, letter.attempt))) is not None
        }
        outputs: dict[Coordinates, Mapping[str, StageBatch]] = {}
        for partition, start, end in _ranges([*at]):
            for record in await self._tail.between(self._topology.redrive, partition, start, end):
                source = at.get((record.partition, record.offset))
                if source is not None:
                    try:
                        redrive = open_redrive(record.key, record.value, record.headers)
                    except WireError:
                        continue
                    outputs[source] = redrive.outputs
        return outputs


async def find_outputs(
    tail: TailReader, topology: Topology, letters: Iterable[DeadLetter]
) -> dict[Coordinates, RedriveOutputs]:
    """What stages have made of the letters' events at the first attempt, where it is still there.

    One pass over each stage topic's partition that matters, from when the first of the letters'
    events was published until it is behind the last of them.
    """
    contents: defaultdict[Coordinates, dict[str, bytes]] = defaultdict(dict)
    present: defaultdict[Coordinates, dict[str, bool]] = defaultdict(dict)
    by_partition = defaultdict[int, list[DeadLetter]](list)
    for letter in letters:
        by_partition[letter.source.partition].append(letter)
    for name in topology.components:
        for partition, of_partition in by_partition.items():
            async for source, content, is_present in _outputs(
                tail, topology, name, partition, of_partition
            ):
                contents[source].setdefault(name, content)
                present[source].setdefault(name, is_present)
    return {
        source: RedriveOutputs(of_source, present[source]) for source, of_source in contents.items()
    }


async def _outputs(
    tail: TailReader, topology: Topology, name: str, partition: int, letters: Sequence[DeadLetter]
) -> AsyncIterator[tuple[Coordinates, bytes, bool]]:
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
                    source = Coordinates(partition, int(offsets[row]))
                    yield source, content, bool(batch.present[row])
            if min(reached.values()) >= wanted[-1]:
                return


def _ranges(places: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Partition, start and end of few ranges of offsets that hold all *places*."""
    return [
        (partition, start, end)
        for partition in sorted({partition for partition, _ in places})
        for start, end in ranges(sorted(offset for p, offset in places if p == partition))
    ]
