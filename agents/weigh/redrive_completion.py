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
    groups_of,
    joined_rows,
)
from agents.weigh.decision_rule import ActiveDecisionRule, causes_of_death
from agents.workers import TailReader, Wiring, all_done, ranges
from topics.errors import WireError
from topics.kafka import Record
from topics.pipeline import WEIGH
from topics.records import Failure, Ints, Original
from topics.records import dead_letter as dead_letters
from topics.records.dead_letter import dead_letter
from topics.redrive import (
    Ending,
    RedriveBatch,
    RedrivenEvent,
    encode_redrive,
    is_summary,
    next_component,
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
        """It is to be ended, or addressed to nobody; or it tells of ends, or is no such record."""
        component = next_component(record.headers)
        return component in (None, WEIGH) or not self.route.knows(component)

    def arrival(self, record: ConsumerRecord) -> Arrival | None:
        """What is to be done of a record; what tells of ends is taken note of."""
        if is_summary(record.headers):
            if record.partition in self._endings:
                self._endings[record.partition].read_back(record)
            return None
        arrival = super().arrival(record)
        return arrival if arrival is not None and arrival.batch.end is None else None

    async def run(self, partition: int, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
        """End what is addressed here; what is addressed to nobody goes on to who is next."""
        here = [arrival for arrival in arrivals if arrival.batch.next == WEIGH]
        for arrival in arrivals:
            if arrival.batch.next != WEIGH:
                await self.pass_on(arrival.batch)
        if not here:
            return ()
        ends = await self._endings_of(partition, here)
        if ends is None:
            return here
        for group in groups_of(here):
            await self._end(partition, ends, group.batch)
        return ()

    async def _endings_of(
        self, partition: int, arrivals: Sequence[Arrival]
    ) -> AttemptEndings | None:
        """How redriven events of a partition have ended; None while that is being read.

        Events do not wait for that: it may take a second.
        """
        if partition in self._endings:
            return self._endings[partition]
        if partition not in self._reading:
            since_ms = min(arrival.written_ms for arrival in arrivals)
            reading = AttemptEndings.read(self._tail, self.wiring.topology, partition, since_ms)
            self._reading[partition] = asyncio.create_task(reading)
            await asyncio.sleep(0)
        if not self._reading[partition].done():
            return None
        self._endings[partition] = await self._reading.pop(partition)
        return self._endings[partition]

    async def _end(self, partition: int, ends: AttemptEndings, batch: RedriveBatch) -> None:
        """End the attempts at different events."""
        now_ms, output = int(time.time() * 1000), _Output()
        letters = await self._dead_letters(partition, [event.letter for event in batch.events])
        rows, ended = self._due(ends, batch, letters)
        if len(rows):
            ending = batch.picked(rows)
            for end, offsets in self._ended(ending, output, now_ms, await self._originals(ending)):
                ended[end] += offsets
                for row in np.flatnonzero(np.isin(batch.offsets, offsets)).tolist():
                    ends.add(batch.events[row], end)
                self.wiring.metrics.observe_redriven(end, len(offsets))
        for end, offsets in ended.items():
            if offsets:
                some = batch.picked(np.flatnonzero(np.isin(batch.offsets, offsets)))
                output.endings.append(encode_redrive(some.ending(end), now_ms))
                for event in some.events:
                    ends.add_ending_record(event)
        if (summary := ends.summary(now_ms)) is not None:
            output.endings.append(summary)
        # The ending record last: what a crash leaves without one `AttemptEndings.read` finds.
        topology = self.wiring.topology
        await all_done([
            self._letters.write(partition, output.dead_letters),
            self._write(topology.decisions, partition, output.decisions),
        ])  # fmt: skip
        await self._write(topology.redrive, partition, output.endings)

    def _due(
        self, ends: AttemptEndings, batch: RedriveBatch, letters: Mapping[int, _Subject]
    ) -> tuple[Ints, dict[Ending, list[int]]]:
        """Rows whose attempts are to end now, and source offsets of those that have without a word.

        The others are refused, or have ended for all to see.
        """
        rows, refused = list[int](), dict[int, WireError]()
        untold: dict[Ending, list[int]] = {"decision": [], "dead-letter": []}
        ends_of = ends.of(batch.offsets)
        for row, (event, attempts) in enumerate(zip(batch.events, ends_of, strict=True)):
            try:
                _check_letter(batch.topic, event, letters)
                end = _end_of(event, attempts)
            except WireError as exc:
                refused[event.offset] = exc
                continue
            if end is None:
                rows.append(row)
            elif not ends.has_ending_record(event):
                untold[end].append(event.offset)
        self.refuse(batch, refused)
        return np.array(rows, np.int64), untold

    async def _write(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        if records:
            await self.wiring.app.writer.write(topic, partition, records)

    def _ended(
        self,
        batch: RedriveBatch,
        output: _Output,
        now_ms: int,
        originals: Mapping[int, Original],
    ) -> list[tuple[Ending, list[int]]]:
        """How attempts end, by source offset; their decisions and dead letters go to *output*."""
        if batch.refused is not None:
            for event in batch.events:
                cause = Failure(0, WEIGH, TOO_LARGE, batch.refused)
                original = originals.get(event.offset)
                output.dead_letters.append(_letter(cause, batch.topic, event, original, now_ms))
            return [("dead-letter", batch.offsets.tolist())]
        try:
            joined = joined_rows(batch, self.wiring.pipeline.weighting.inputs)
        except WireError as exc:
            self.refuse(batch, {event.offset: exc for event in batch.events})
            return []
        rule = self._active_rule.rule
        scores = rule.scorer.score(joined)
        for attempt in np.unique(batch.attempts).tolist():
            rows = np.flatnonzero(scores.decidable & (batch.attempts == attempt))
            output.decisions += rule.decisions.records(
                batch.partition, joined, rows, scores.weighed, now_ms, attempt=attempt
            )
        for cause in causes_of_death(joined, scores, np.flatnonzero(~scores.decidable)):
            event = batch.events[cause.row]
            original = (event.key, event.value, event.headers)
            output.dead_letters.append(_letter(cause, batch.topic, event, original, now_ms))
        return [
            ("decision", batch.offsets[scores.decidable].tolist()),
            ("dead-letter", batch.offsets[~scores.decidable].tolist()),
        ]

    async def _originals(self, batch: RedriveBatch) -> dict[int, Original]:
        """The source records, by offset, of events that came without them."""
        originals = dict[int, Original]()
        if batch.refused is not None:
            for event in batch.events:
                at = event.offset
                for record in await self._tail.between(batch.topic, batch.partition, at, at + 1):
                    originals[at] = (record.key, record.value, record.headers)
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
    cause: Failure, topic: str, event: RedrivenEvent, original: Original | None, now_ms: int
) -> Record:
    return dead_letter(
        cause, (topic, event.partition, event.offset), original, now_ms,
        published_ms=event.timestamp, attempt=event.attempt,
    )  # fmt: skip


def _end_of(event: RedrivenEvent, attempts: Mapping[int, Ending]) -> Ending | None:
    """How this attempt has ended, by all *attempts* that have; None when it is to be ended now.

    Raises WireError when a later one has, or when the event has its decision.
    """
    if event.attempt in attempts:
        return attempts[event.attempt]
    if "decision" in attempts.values() or max(attempts, default=1) > event.attempt:
        raise WireError("not a redrive record any more: its event has ended by another attempt")
    return None


def _subject_of(letter: ConsumerRecord) -> _Subject:
    """Source topic, partition, offset and attempt of a dead letter; an empty tuple for none."""
    try:
        return *dead_letters.source_of(letter.headers), dead_letters.attempt_of(letter.headers)
    except (KeyError, ValueError):
        return ()


def _check_letter(topic: str, event: RedrivenEvent, letters: Mapping[int, _Subject]) -> None:
    """Raise WireError unless the event is what its dead letter says is dead."""
    if event.letter not in letters:
        raise WireError("not a redrive record: there is no such dead letter")
    subject = letters[event.letter]
    if subject is None:
        return
    if not subject:
        raise WireError("not a redrive record: its dead letter is none")
    if subject != (topic, event.partition, event.offset, event.attempt - 1):
        raise WireError("not a redrive record: its dead letter is about another event or attempt")
