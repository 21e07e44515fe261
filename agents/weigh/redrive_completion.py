"""How attempts end: in a decision, or in another dead letter, and then in an ending record.

This is the last part of the protocol in `topics.redrive.record`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.redrive import (
    Arrival,
    AttemptEndings,
    ComponentRedrive,
    DeadLetterWriter,
    joined_rows,
    split_batch,
)
from agents.weigh.decision_rule import ActiveDecisionRule, causes_of_death
from agents.workers import TailReader, Wiring, all_done, ranges
from topics.errors import WireError
from topics.kafka import Record
from topics.pipeline import WEIGH
from topics.records import Failure, Original
from topics.records import dead_letter as dead_letters
from topics.records.dead_letter import dead_letter
from topics.redrive import (
    Ending,
    RedriveHeader,
    RedriveRecord,
    encode_redrive,
    is_summary,
    next_component,
    redrive_header,
)

TOO_LARGE = "RecordTooLarge"

_READ_AHEAD = 2000
_MOST_SUBJECTS = 20_000
"""Dead letters that are remembered of a partition."""

_Subject = tuple[str, int, int, int] | tuple[()] | None
"""Source topic, partition, offset and attempt of a dead letter; empty when it is none."""


@dataclass(slots=True)
class _Output:
    """What redrive records of one partition lead to."""

    dead_letters: list[Record] = field(default_factory=list)
    decisions: list[Record] = field(default_factory=list)
    endings: list[Record] = field(default_factory=list)


class RedriveCompletion(ComponentRedrive):
    """Ends the attempts whose redrive records have come to the weighting agent."""

    in_order = True

    def __init__(self, wiring: Wiring, tail: TailReader, active_rule: ActiveDecisionRule) -> None:
        super().__init__(wiring)
        self._tail = tail
        self._active_rule = active_rule
        self._endings: dict[int, AttemptEndings] = {}
        self._reading: dict[int, asyncio.Task[AttemptEndings]] = {}
        self._subjects: dict[int, dict[int, _Subject]] = {}
        """Partition → offset of a dead letter → what it says, of the latest that were asked for."""
        self._letters = DeadLetterWriter(wiring.app, wiring.topology.dead_letters)

    def forget(self) -> None:
        """Another worker may end redrive records in the meantime: what has ended is read again."""
        super().forget()
        for reading in self._reading.values():
            reading.cancel()
        self._reading.clear()
        self._endings.clear()
        self._subjects.clear()

    def is_for_us(self, record: ConsumerRecord) -> bool:
        """It is to be ended, or addressed to nobody; or it is a summary, or no redrive record."""
        component = next_component(record.headers)
        if component is not None:
            return component == WEIGH or not self.route.knows(component)
        try:
            return redrive_header(record.headers).end is None
        except WireError:
            return True

    async def run(self, records: Sequence[ConsumerRecord]) -> Sequence[ConsumerRecord]:
        """End what is addressed here; what is addressed to nobody goes on to who is next."""
        partition, aside = records[0].partition, list[ConsumerRecord]()
        summaries = [record for record in records if is_summary(record.headers)]
        for record in summaries:
            if partition in self._endings:
                self._endings[partition].read_back(record)
        redrives, bad = self.parse([record for record in records if record not in summaries])
        for record, exc in bad:
            self.skip(record, exc)
        left = [pair for pair in redrives if pair[1].header.next == WEIGH]
        ends = await self._endings_of(partition, left) if left else None
        if ends is None:
            aside, left = [record for record, _ in left], []
        while left and ends is not None:
            _, some, left = split_batch(left)
            await self._end(partition, ends, some)
        unaddressed = [redrive for _, redrive in redrives if redrive.header.next != WEIGH]
        if unaddressed:
            await self.pass_on([self.route.onward(redrive) for redrive in unaddressed])
        return aside

    async def _endings_of(
        self, partition: int, arrivals: Sequence[Arrival]
    ) -> AttemptEndings | None:
        """How redriven events of a partition have ended; None while that is being read.

        Events do not wait for that: it may take a second.
        """
        if partition in self._endings:
            return self._endings[partition]
        if partition not in self._reading:
            since_ms = min(record.timestamp for record, _ in arrivals)
            reading = AttemptEndings.read(self._tail, self.wiring.topology, partition, since_ms)
            self._reading[partition] = asyncio.create_task(reading)
            await asyncio.sleep(0)
        if not self._reading[partition].done():
            return None
        self._endings[partition] = await self._reading.pop(partition)
        return self._endings[partition]

    async def _end(self, partition: int, ends: AttemptEndings, arrivals: Sequence[Arrival]) -> None:
        """End redrive records about different events, by ascending offset."""
        now_ms = int(time.time() * 1000)
        letters = await self._dead_letters(
            partition, [redrive.header.letter for _, redrive in arrivals]
        )
        known = ends.of([redrive.header for _, redrive in arrivals])
        output, ending = _Output(), list[Arrival]()
        for (record, redrive), attempts in zip(arrivals, known, strict=True):
            try:
                _check_letter(redrive.header, letters)
                end = _end_of(redrive.header, attempts)
            except WireError as exc:
                self.skip(record, exc)
                continue
            if end is None:
                ending.append((record, redrive))
            elif not ends.has_ending_record(redrive.header):
                self._add_ending_record(ends, redrive, end, output, now_ms)
        for redrive, end in await self._ends_of(partition, ending, output, now_ms):
            ends.add(redrive.header, end)
            self._add_ending_record(ends, redrive, end, output, now_ms)
            self.wiring.metrics.observe_redriven(end)
        if (summary := ends.summary(now_ms)) is not None:
            output.endings.append(summary)
        # The ending record last: what a crash leaves without one `AttemptEndings.read` finds.
        topology = self.wiring.topology
        await all_done([
            self._letters.write(partition, output.dead_letters),
            self._write(topology.decisions, partition, output.decisions),
        ])  # fmt: skip
        await self._write(topology.redrive, partition, output.endings)

    def _add_ending_record(
        self,
        ends: AttemptEndings,
        redrive: RedriveRecord,
        end: Ending,
        output: _Output,
        now_ms: int,
    ) -> None:
        output.endings.append(encode_redrive(redrive.ending(end), now_ms))
        ends.add_ending_record(redrive.header)

    async def _write(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        if records:
            await self.wiring.app.writer.write(topic, partition, records)

    async def _ends_of(
        self, partition: int, ending: Sequence[Arrival], output: _Output, now_ms: int
    ) -> list[tuple[RedriveRecord, Ending]]:
        """How redrive records end; their decisions and dead letters are added to *written*."""
        ended: list[tuple[RedriveRecord, Ending]] = []
        refused = [redrive for _, redrive in ending if redrive.refused is not None]
        originals = await self._originals(partition, [redrive.offset for redrive in refused])
        for redrive in refused:
            cause = Failure(0, WEIGH, TOO_LARGE, redrive.refused or "")
            original = originals.get(redrive.offset)
            output.dead_letters.append(_letter(cause, redrive, original, now_ms))
            ended.append((redrive, "dead-letter"))
        whole = [redrive for _, redrive in ending if redrive.refused is None]
        redrives, joined, bad = joined_rows(whole, self.wiring.pipeline.weighting.inputs)
        for record, redrive in ending:
            if redrive.offset in bad:
                self.skip(record, bad[redrive.offset])
        if joined is None:
            return ended
        rule = self._active_rule.rule
        scores = rule.scorer.score(joined)
        attempts = np.array([redrive.header.attempt for redrive in redrives])
        for attempt in np.unique(attempts).tolist():
            rows = np.flatnonzero(scores.decidable & (attempts == attempt))
            output.decisions += rule.decisions.records(
                partition, joined, rows, scores.weighed, now_ms, attempt=attempt
            )
            ended += [(redrives[row], "decision") for row in rows.tolist()]
        for cause in causes_of_death(joined, scores, np.flatnonzero(~scores.decidable)):
            redrive = redrives[cause.row]
            original = (redrive.key, redrive.value, redrive.headers)
            output.dead_letters.append(_letter(cause, redrive, original, now_ms))
            ended.append((redrive, "dead-letter"))
        return ended

    async def _originals(self, partition: int, offsets: Sequence[int]) -> dict[int, Original]:
        """The source records, by offset, of redrive records that came without them."""
        topic, originals = self.wiring.topology.events, dict[int, Original]()
        for offset in offsets:
            for record in await self._tail.between(topic, partition, offset, offset + 1):
                originals[offset] = (record.key, record.value, record.headers)
        return originals

    async def _dead_letters(self, partition: int, offsets: Sequence[int]) -> Mapping[int, _Subject]:
        """What dead letters say they are about, by offset; none that never was.

        None for one that retention has deleted. Redrive records come mostly in the order of their
        letters: so those that follow are read with them.
        """
        known = self._subjects.setdefault(partition, {})
        missing = sorted({offset for offset in offsets if offset not in known})
        if not missing:
            return known
        if len(known) > _MOST_SUBJECTS:
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
                    known |= {record.offset: _subject_of(record) for record in records}
        return known


def _letter(
    cause: Failure, redrive: RedriveRecord, original: Original | None, now_ms: int
) -> Record:
    source = redrive.header.source
    return dead_letter(
        cause, (source.topic, source.partition, source.offset), original, now_ms,
        published_ms=redrive.header.published_ms, attempt=redrive.header.attempt,
    )  # fmt: skip


def _end_of(header: RedriveHeader, attempts: Mapping[int, Ending]) -> Ending | None:
    """How this attempt has ended, by all *attempts* that have; None when it is to be ended now.

    Raises WireError when a later one has, or when the event has its decision.
    """
    if header.attempt in attempts:
        return attempts[header.attempt]
    if "decision" in attempts.values() or max(attempts, default=1) > header.attempt:
        raise WireError("not a redrive record any more: its event has ended by another attempt")
    return None


def _subject_of(letter: ConsumerRecord) -> _Subject:
    """Source topic, partition, offset and attempt of a dead letter; an empty tuple for none."""
    try:
        return *dead_letters.source_of(letter.headers), dead_letters.attempt_of(letter.headers)
    except (KeyError, ValueError):
        return ()


def _check_letter(header: RedriveHeader, letters: Mapping[int, _Subject]) -> None:
    """Raise WireError unless the redrive record is about what its dead letter says is dead."""
    if header.letter not in letters:
        raise WireError("not a redrive record: there is no such dead letter")
    subject, of = letters[header.letter], header.source
    if subject is None:
        return
    if not subject:
        raise WireError("not a redrive record: its dead letter is none")
    if subject != (of.topic, of.partition, of.offset, header.attempt - 1):
        raise WireError("not a redrive record: its dead letter is about another event or attempt")
