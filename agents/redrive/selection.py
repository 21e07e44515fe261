"""From dead letters to errands: which can go, with which value, and with what is known already."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agents.redrive.dead_letter_index import Identity, Letter, Letters, State
from agents.redrive.first_outputs import Outputs, find_outputs
from agents.redrive.jq_edit import EditFailed
from agents.workers import TailReader, ranges
from topics.errors import WireError
from topics.events import EventDecoder
from topics.pipeline import WEIGH, Pipeline, Topology
from topics.records import Source, StageBatch, original_digest
from topics.redrive import About, Errand, ErrandRoute, opened

AT_ONCE = 5000
"""So many letters are held in memory with their originals and outputs."""

Edit = Callable[[bytes | None], bytes]


@dataclass(slots=True)
class Selection:
    """What of the chosen dead letters can be redriven."""

    going: list[Letter] = field(default_factory=list)
    """With the values they go with."""
    edited: bool = False
    skipped: Counter[State] = field(default_factory=Counter)
    """Those that have no need to go, or may not, by state."""
    left: list[tuple[Letter, str]] = field(default_factory=list)
    """Those that would only die again, and why."""


def due(
    letters: Letters, chosen: Sequence[Letter], *, attempts: int, again: bool
) -> tuple[list[Letter], Counter[State]]:
    """Those of *chosen* that are to go by their state, and the states of the others."""
    going: list[Letter] = []
    skipped: Counter[State] = Counter()
    for letter in chosen:
        state = letters.state(letter, attempts)
        if state == "dead" or (again and state == "waiting"):
            going.append(letter)
        else:
            skipped[state] += 1
    return going, skipped


def validated(pipeline: Pipeline, whole: Sequence[Letter], edit: Edit | None) -> Selection:
    """Edit letters, which are here with their originals, and validate what they go with."""
    selection = Selection(edited=edit is not None)
    edited: list[tuple[Letter, Letter]] = []
    for letter in whole:
        try:
            going = letter if edit is None else letter._replace(value=edit(letter.value))
        except EditFailed as exc:
            selection.left.append((letter, str(exc)))
        else:
            edited.append((letter, going))
    failures = EventDecoder(pipeline.event).decode([going for _, going in edited]).failures
    reasons = {failure.row: failure.reason for failure in failures}
    for row, (letter, going) in enumerate(edited):
        if row in reasons:
            selection.left.append((letter, f"it is no valid event: {reasons[row]}"))
        else:
            selection.going.append(going)
    return selection


def select(
    pipeline: Pipeline, letters: Letters, chosen: Sequence[Letter], *, attempts: int,
    again: bool, edit: Edit | None,
) -> Selection:  # fmt: skip
    """Sort *chosen*, which are here with their originals, as `due` and `validated` do."""
    going, skipped = due(letters, chosen, attempts=attempts, again=again)
    selection = validated(pipeline, going, edit)
    selection.skipped = skipped
    return selection


def errands(pipeline: Pipeline, selection: Selection, outputs: Outputs) -> list[Errand]:
    """The errands of a selection, each addressed to the first stage that has to compute."""
    topology, route = Topology.of(pipeline), ErrandRoute(pipeline)
    made = []
    for letter in selection.going:
        known: Mapping[str, StageBatch] = outputs.get(letter.source, {})
        source = Source(
            topic=topology.events, partition=letter.source.partition, offset=letter.source.offset
        )
        about = About(
            source=source, letter=letter.offset, attempt=letter.attempt + 1,
            published_ms=letter.published_ms, next=WEIGH,
        )  # fmt: skip
        kept = {} if selection.edited else route.kept(known)
        errand = Errand(about, letter.key, letter.value, letter.headers, kept)
        made.append(route.onward(errand))
    return made


class LetterReader:
    """Reads what chosen dead letters need to be redriven, some at a time."""

    def __init__(self, tail: TailReader, pipeline: Pipeline, letters: Letters) -> None:
        self._tail = tail
        self._pipeline = pipeline
        self._topology = Topology.of(pipeline)
        self._letters = letters

    async def selections(
        self, chosen: Sequence[Letter], edit: Edit | None, *, most: int | None
    ) -> AsyncIterator[Selection]:
        """*chosen* letters with their originals, edited and validated; *most* that go in all."""
        left = most
        for start in range(0, len(chosen), AT_ONCE):
            whole, missing = await self._whole(chosen[start : start + AT_ONCE])
            selection = validated(self._pipeline, whole, edit)
            selection.left += missing
            selection.going = selection.going[:left]
            yield selection
            if left is not None and (left := left - len(selection.going)) <= 0:
                return

    async def errands(self, selection: Selection) -> list[Errand]:
        """The errands of a selection, with what is known of their events."""
        outputs: dict[Identity, Mapping[str, StageBatch]] = {}
        if not selection.edited:
            first = [letter for letter in selection.going if letter.attempt == 1]
            outputs |= await find_outputs(self._tail, self._topology, first)
            later = [letter for letter in selection.going if letter.attempt > 1]
            outputs |= await self._outputs_of_last_attempts(later)
        return errands(self._pipeline, selection, outputs)

    async def _whole(
        self, chosen: Sequence[Letter]
    ) -> tuple[list[Letter], list[tuple[Letter, str]]]:
        """Letters with their originals, and those whose originals cannot be had, and why."""
        places = [(letter.partition, letter.offset) for letter in chosen]
        wanted = set(places)
        found: dict[tuple[int, int], Letter] = {}
        topic = self._topology.dead_letters
        for partition, start, end in _ranges(places):
            for record in await self._tail.between(topic, partition, start, end):
                if (place := (record.partition, record.offset)) in wanted:
                    found[place] = Letter.of(record, self._letters.id_field)
        whole: list[Letter] = []
        missing: list[tuple[Letter, str]] = []
        for letter, place in zip(chosen, places, strict=True):
            if place not in found:
                missing.append((letter, "the dead letter is no longer on its topic"))
                continue
            got = found[place]
            if not got.digest:
                whole.append(got)
                continue
            original = await self._original(got)
            if isinstance(original, str):
                missing.append((letter, original))
            else:
                whole.append(original)
        return whole, missing

    async def _original(self, letter: Letter) -> Letter | str:
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
        self, later: Sequence[Letter]
    ) -> dict[Identity, Mapping[str, StageBatch]]:
        """What travelled with the errands that ended in letters of attempts > 1."""
        at = {
            place: letter.source
            for letter in later
            if (place := self._letters.last.get((letter.source, letter.attempt))) is not None
        }
        found: dict[Identity, Mapping[str, StageBatch]] = {}
        for partition, start, end in _ranges([*at]):
            for record in await self._tail.between(self._topology.redrive, partition, start, end):
                source = at.get((record.partition, record.offset))
                if source is not None:
                    try:
                        errand = opened(record.key, record.value, record.headers)
                    except WireError:
                        continue
                    found[source] = errand.outputs
        return found


def _ranges(places: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Partition, start and end of few ranges of offsets that hold all *places*."""
    return [
        (partition, start, end)
        for partition in sorted({partition for partition, _ in places})
        for start, end in ranges(sorted(offset for p, offset in places if p == partition))
    ]
