"""From dead letters to redrive records: which can go, with which value, and what is known already.

The first part of the protocol in `topics.redrive.record`. A letter is due by its state (`due`); its
value may be mended with a jq program (`Edit`), and has to be a valid event then; outputs that the
stages have made of it before, and that need not be made again, go with it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import numpy as np
import orjson

from agents.redrive.dead_letter_index import Coordinates, DeadLetter, DeadLetterIndex, State
from agents.workers import TailReader, ranges
from topics.errors import AnabranchError, MissingExtra, WireError
from topics.events import EventDecoder
from topics.pipeline import WEIGH, Pipeline, Topology
from topics.records import Ints, StageBatch, decode, original_digest
from topics.redrive import RedriveBatch, RedrivenEvent, RedriveRoute, decode_redrive, merged, picked

AT_ONCE = 5000
"""So many letters are held in memory with their originals and outputs."""
_SLACK_MS = 60_000
"""Clocks of producers and workers may differ by so much."""


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


class KnownOutputs:
    """What stages have made of events before, as far as it was found."""

    def __init__(self) -> None:
        self._batches = defaultdict[tuple[int, str], list[StageBatch]](list)
        self._present = defaultdict[Coordinates, set[str]](set)
        self._seen = defaultdict[tuple[int, str], set[int]](set)

    def add(self, batch: StageBatch, offsets: Ints) -> None:
        """The rows of *batch* at some source offsets (M,), which ascend; the first ones count."""
        seen = self._seen[batch.partition, batch.component]
        new = [offset for offset in offsets.tolist() if offset not in seen]
        for part in picked([batch], np.array(new, np.int64)):
            alone = replace(part, lane=None, covers_from=-1, covers_to=-1)
            self._batches[part.partition, part.component].append(alone)
            for offset, present in zip(
                part.rows.offsets.tolist(), part.present.tolist(), strict=True
            ):
                seen.add(offset)
                if present:
                    self._present[Coordinates(part.partition, offset)].add(part.component)

    def present(self, source: Coordinates) -> AbstractSet[str]:
        """The components that have an output for an event which is not absent."""
        return self._present.get(source, set())

    def of(self, partition: int, component: str, offsets: Ints) -> list[StageBatch]:
        """The rows of a component at some source offsets (M,), which ascend."""
        return merged(picked(self._batches[partition, component], offsets))


def redrive_batches(
    pipeline: Pipeline, selection: Selection, known: KnownOutputs
) -> list[RedriveBatch]:
    """The events of a selection, addressed to the first stage that has to compute."""
    topic, route = Topology.of(pipeline).events, RedriveRoute(pipeline)
    alike = defaultdict[tuple[int, tuple[str, ...]], list[RedrivenEvent]](list)
    for letter in selection.ready:
        reused = () if selection.edited else route.reusable(known.present(letter.source))
        event = RedrivenEvent(
            *letter.source, letter.offset, letter.attempt + 1, letter.published_ms, letter.key,
            letter.value, letter.headers,
        )  # fmt: skip
        alike[letter.source.partition, reused].append(event)
    batches: list[RedriveBatch] = []
    for (partition, reused), events in alike.items():
        ordered = sorted(events, key=attrgetter("offset"))
        offsets = np.array([event.offset for event in ordered], np.int64)
        outputs = {name: known.of(partition, name, offsets) for name in reused}
        batches.append(route.onward(RedriveBatch(topic, partition, WEIGH, ordered, outputs)))
    return batches


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

    async def redrive_batches(self, selection: Selection) -> list[RedriveBatch]:
        """The events of a selection, with what is known of them."""
        known = KnownOutputs()
        if not selection.edited:
            first = [letter for letter in selection.ready if letter.attempt == 1]
            await find_outputs(self._tail, self._topology, first, known)
            later = [letter for letter in selection.ready if letter.attempt > 1]
            await self._add_outputs_of_last_attempts(later, known)
        return redrive_batches(self._pipeline, selection, known)

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

    async def _add_outputs_of_last_attempts(
        self, later: Sequence[DeadLetter], known: KnownOutputs
    ) -> None:
        """What travelled with the events that ended in letters of attempts > 1."""
        offsets_at = defaultdict[tuple[int, int], list[int]](list)
        for letter in later:
            place = self._letters.last.get((letter.source, letter.attempt))
            if place is not None:
                offsets_at[place].append(letter.source.offset)
        for partition, start, end in _ranges([*offsets_at]):
            for record in await self._tail.between(self._topology.redrive, partition, start, end):
                wanted = offsets_at.get((record.partition, record.offset))
                if wanted is None:
                    continue
                try:
                    batch = decode_redrive(record.key, record.value, record.headers)
                except WireError:
                    continue
                if batch.topic != self._topology.events:
                    continue
                for outputs in batch.outputs.values():
                    for output in outputs:
                        known.add(output, np.unique(np.array(wanted, np.int64)))


async def find_outputs(
    tail: TailReader, topology: Topology, letters: Iterable[DeadLetter], known: KnownOutputs
) -> None:
    """Add what stages have made of the letters' events at the first attempt, if it still stands.

    One pass over each stage topic's partition that matters, from when the first of the letters'
    events was published until it is behind the last of them.
    """
    by_partition = defaultdict[int, list[DeadLetter]](list)
    for letter in letters:
        by_partition[letter.source.partition].append(letter)
    for name in topology.components:
        for partition, of_partition in by_partition.items():
            await _find_outputs_of(tail, topology, name, partition, of_partition, known)


async def _find_outputs_of(
    tail: TailReader, topology: Topology, name: str, partition: int, letters: Sequence[DeadLetter],
    known: KnownOutputs,
) -> None:  # fmt: skip
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
                about = (batch.component, batch.topic, batch.partition)
                if about != (name, topology.events, partition):
                    continue  # no worker of ours has written it
                reached[batch.lane or 0] = batch.covers_to
                known.add(batch, np.intersect1d(wanted, batch.rows.offsets, assume_unique=True))
            if min(reached.values()) >= wanted[-1]:
                return


def _ranges(places: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Partition, start and end of few ranges of offsets that hold all *places*."""
    return [
        (partition, start, end)
        for partition in sorted({partition for partition, _ in places})
        for start, end in ranges(sorted(offset for p, offset in places if p == partition))
    ]
