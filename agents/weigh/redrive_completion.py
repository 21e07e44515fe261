"""How errands end: in a decision, or in another dead letter, once for each attempt at an event."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.redrive import Addressed, EndedAttempts, Errands, LetterWriter, alike, joined_rows
from agents.weigh.decision_rule import ActiveDecisionRule, causes_of_death
from agents.workers import TailReader, Wiring, all_done, ranges
from topics.errors import WireError
from topics.kafka import Record
from topics.pipeline import WEIGH
from topics.records import Failure, Original
from topics.records import dead_letter as dead_letters
from topics.records.dead_letter import dead_letter
from topics.redrive import About, End, Errand, about_of, is_summary, next_of
from topics.redrive.record import encoded

TOO_LARGE = "RecordTooLarge"

_READ_AHEAD = 2000
_MOST_SAID = 20_000
"""Dead letters that are remembered of a partition."""

_Said = tuple[str, int, int, int] | tuple[()] | None
"""Source topic, partition, offset and attempt of a dead letter; empty when it is none."""


@dataclass(slots=True)
class _Written:
    """What errands of one partition lead to."""

    letters: list[Record] = field(default_factory=list)
    decisions: list[Record] = field(default_factory=list)
    notes: list[Record] = field(default_factory=list)


class RedriveCompletion(Errands):
    """Ends the errands that have come to the weighting agent, and notes it on the redrive topic."""

    in_order = True

    def __init__(self, wiring: Wiring, tail: TailReader, active_rule: ActiveDecisionRule) -> None:
        super().__init__(wiring)
        self._tail = tail
        self._active_rule = active_rule
        self._ends: dict[int, EndedAttempts] = {}
        self._reading: dict[int, asyncio.Task[EndedAttempts]] = {}
        self._said: dict[int, dict[int, _Said]] = {}
        """Partition → offset of a dead letter → what it says, of the latest that were asked for."""
        self._letters = LetterWriter(wiring.app, wiring.topology.dead_letters)

    def forget(self) -> None:
        """Another worker may end errands in the meantime: what has ended is read again."""
        super().forget()
        for reading in self._reading.values():
            reading.cancel()
        self._reading.clear()
        self._ends.clear()
        self._said.clear()

    def is_for_us(self, record: ConsumerRecord) -> bool:
        """It has come to its end, or is addressed to nobody; or it is a summary, or no errand."""
        component = next_of(record.headers)
        if component is not None:
            return component == WEIGH or not self.route.knows(component)
        try:
            return about_of(record.headers).end is None
        except WireError:
            return True

    async def run(self, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """End what is addressed here; what is addressed to nobody goes on to who is next."""
        partition, aside = records[0].partition, list[ConsumerRecord]()
        summaries = [record for record in records if is_summary(record.headers)]
        for record in summaries:
            if partition in self._ends:
                self._ends[partition].read_back(record)
        errands, bad = self.opened([record for record in records if record not in summaries])
        for record, exc in bad:
            self.skip(record, exc)
        left = [pair for pair in errands if pair[1].about.next == WEIGH]
        ends = await self._ended(partition, left) if left else None
        if ends is None:
            aside, left = [record for record, _ in left], []
        while left and ends is not None:
            _, some, left = alike(left)
            await self._end(partition, ends, some)
        strays = [errand for _, errand in errands if errand.about.next != WEIGH]
        if strays:
            await self.pass_on([self.route.onward(errand) for errand in strays])
        return aside

    async def _ended(self, partition: int, come: Sequence[Addressed]) -> EndedAttempts | None:
        """How redriven events of a partition have ended; None while that is being read.

        Events do not wait for that: it may take a second.
        """
        if partition in self._ends:
            return self._ends[partition]
        if partition not in self._reading:
            since_ms = min(record.timestamp for record, _ in come)
            reading = EndedAttempts.read(self._tail, self.wiring.topology, partition, since_ms)
            self._reading[partition] = asyncio.create_task(reading)
            await asyncio.sleep(0)
        if not self._reading[partition].done():
            return None
        self._ends[partition] = await self._reading.pop(partition)
        return self._ends[partition]

    async def _end(self, partition: int, ends: EndedAttempts, come: Sequence[Addressed]) -> None:
        """End errands about different events, by ascending offset."""
        now_ms = int(time.time() * 1000)
        letters = await self._dead_letters(partition, [it.about.letter for _, it in come])
        known = ends.of([errand.about for _, errand in come])
        written, ending = _Written(), list[Addressed]()
        for (record, errand), attempts in zip(come, known, strict=True):
            try:
                _check_letter(errand.about, letters)
                end = _end_of(errand.about, attempts)
            except WireError as exc:
                self.skip(record, exc)
                continue
            if end is None:
                ending.append((record, errand))
            elif not ends.is_noted(errand.about):
                self._note(ends, errand, end, written, now_ms)
        for errand, end in await self._judged(partition, ending, written, now_ms):
            ends.add(errand.about, end)
            self._note(ends, errand, end, written, now_ms)
            self.wiring.metrics.observe_redriven(end)
        if (summary := ends.summary(now_ms)) is not None:
            written.notes.append(summary)
        # The note last: what a crash leaves without one is found by `EndedAttempts.read`.
        topology = self.wiring.topology
        await all_done([
            self._letters.write(partition, written.letters),
            self._write(topology.decisions, partition, written.decisions),
        ])  # fmt: skip
        await self._write(topology.redrive, partition, written.notes)

    def _note(
        self, ends: EndedAttempts, errand: Errand, end: End, written: _Written, now_ms: int
    ) -> None:
        written.notes.append(encoded(errand.ended(end), now_ms))
        ends.note(errand.about)

    async def _write(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        if records:
            await self.wiring.app.writer.write(topic, partition, records)

    async def _judged(
        self, partition: int, ending: Sequence[Addressed], written: _Written, now_ms: int
    ) -> list[tuple[Errand, End]]:
        """How errands end; their decisions and dead letters are added to *written*."""
        ended: list[tuple[Errand, End]] = []
        refused = [errand for _, errand in ending if errand.refused is not None]
        originals = await self._originals(partition, [it.offset for it in refused])
        for errand in refused:
            cause = Failure(0, WEIGH, TOO_LARGE, errand.refused or "")
            original = originals.get(errand.offset)
            written.letters.append(_letter(cause, errand, original, now_ms))
            ended.append((errand, "dead-letter"))
        whole = [errand for _, errand in ending if errand.refused is None]
        errands, joined, bad = joined_rows(whole, self.wiring.pipeline.weighting.inputs)
        for record, errand in ending:
            if errand.offset in bad:
                self.skip(record, bad[errand.offset])
        if joined is None:
            return ended
        rule = self._active_rule.rule
        scores = rule.scorer.score(joined)
        attempts = np.array([errand.about.attempt for errand in errands])
        for attempt in np.unique(attempts).tolist():
            rows = np.flatnonzero(scores.decidable & (attempts == attempt))
            written.decisions += rule.decisions.records(
                partition, joined, rows, scores.weighed, now_ms, attempt=attempt
            )
            ended += [(errands[row], "decision") for row in rows.tolist()]
        for cause in causes_of_death(joined, scores, np.flatnonzero(~scores.decidable)):
            errand = errands[cause.row]
            original = (errand.key, errand.value, errand.headers)
            written.letters.append(_letter(cause, errand, original, now_ms))
            ended.append((errand, "dead-letter"))
        return ended

    async def _originals(self, partition: int, offsets: Sequence[int]) -> dict[int, Original]:
        """The source records, by offset, of errands that came without them."""
        topic, found = self.wiring.topology.events, dict[int, Original]()
        for offset in offsets:
            for record in await self._tail.between(topic, partition, offset, offset + 1):
                found[offset] = (record.key, record.value, record.headers)
        return found

    async def _dead_letters(self, partition: int, offsets: Sequence[int]) -> Mapping[int, _Said]:
        """What dead letters say they are about, by offset; none that never was.

        None for one that retention has deleted. Errands come mostly in the order of their
        letters: so those that follow are read with them.
        """
        known = self._said.setdefault(partition, {})
        missing = sorted({offset for offset in offsets if offset not in known})
        if not missing:
            return known
        if len(known) > _MOST_SAID:
            known.clear()
            missing = sorted(set(offsets))
        topic = self.wiring.topology.dead_letters
        first, _ = await self._tail.bounds(topic, partition)
        known |= {offset: None for offset in missing if offset < first}
        *spans, (start, stop) = ranges(missing)
        for begin, end in (*spans, (start, stop + _READ_AHEAD)):
            chunks = self._tail.between_chunks(topic, partition, begin, end)
            async with aclosing(chunks):
                async for records in chunks:
                    known |= {record.offset: _said_of(record) for record in records}
        return known


def _letter(cause: Failure, errand: Errand, original: Original | None, now_ms: int) -> Record:
    source = errand.about.source
    return dead_letter(
        cause, (source.topic, source.partition, source.offset), original, now_ms,
        published_ms=errand.about.published_ms, attempt=errand.about.attempt,
    )  # fmt: skip


def _end_of(about: About, attempts: Mapping[int, End]) -> End | None:
    """How this attempt has ended, by all *attempts* that have; None when it is to be ended now.

    Raises WireError when a later one has, or when the event has its decision.
    """
    if about.attempt in attempts:
        return attempts[about.attempt]
    if "decision" in attempts.values() or max(attempts, default=1) > about.attempt:
        raise WireError("not an errand any more: its event has ended by another attempt")
    return None


def _said_of(letter: ConsumerRecord) -> _Said:
    """Source topic, partition, offset and attempt of a dead letter; an empty tuple for none."""
    try:
        return *dead_letters.source_of(letter.headers), dead_letters.attempt_of(letter.headers)
    except (KeyError, ValueError):
        return ()


def _check_letter(about: About, letters: Mapping[int, _Said]) -> None:
    """Raise WireError unless the errand is about what its dead letter says is dead."""
    if about.letter not in letters:
        raise WireError("not an errand: there is no such dead letter")
    said, of = letters[about.letter], about.source
    if said is None:
        return
    if not said:
        raise WireError("not an errand: its dead letter is none")
    if said != (of.topic, of.partition, of.offset, about.attempt - 1):
        raise WireError("not an errand: its dead letter is about another event or attempt")
