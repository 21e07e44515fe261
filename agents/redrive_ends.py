"""How errands end: in a decision, or in another dead letter, once for each attempt at an event."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from aiokafka.structs import ConsumerRecord

from agents.errands import Errands, joined_of
from agents.tail import TailReader, ranges
from agents.terms import TermsSlot
from agents.weighing import causes_of_death
from agents.worker import Wiring
from topics import dead_letters
from topics.batches import Record
from topics.dead_letters import dead_letter
from topics.ends import attempt_at
from topics.errors import WireError
from topics.redrive import About, End, Errand, about_of, encoded
from topics.topology import WEIGH

log = logging.getLogger(__name__)

_SLACK_MS = 60_000
"""The clocks of workers may differ by so much."""


@dataclass(slots=True)
class _Ends:
    """How the redriven events of one partition have ended."""

    by_attempt: defaultdict[int, dict[int, End]] = field(default_factory=lambda: defaultdict(dict))
    """Source offset → attempt → end."""
    noted: set[tuple[int, int]] = field(default_factory=set)
    """Source offset and attempt of those that the redrive topic says so of."""

    def add(self, offset: int, attempt: int, end: End) -> None:
        self.by_attempt[offset][attempt] = end

    def of(self, about: About) -> End | None:
        """How this attempt has ended; None when it is to be ended now.

        Raises WireError when a later one has, or when the event has its decision.
        """
        ends = self.by_attempt.get(about.source.offset, {})
        if about.attempt in ends:
            return ends[about.attempt]
        if "decision" in ends.values() or max(ends, default=1) > about.attempt:
            raise WireError("not an errand any more: its event has ended by another attempt")
        return None


class RedriveEnds(Errands):
    """Ends the errands that have come to the weighting agent, and notes it on the redrive topic."""

    def __init__(self, wiring: Wiring, tail: TailReader, slot: TermsSlot) -> None:
        super().__init__(wiring)
        self._tail = tail
        self._slot = slot
        self._ends: dict[int, _Ends] = {}

    def forget(self) -> None:
        """Another worker may end errands in the meantime: what has ended is read again."""
        super().forget()
        self._ends.clear()

    async def work_off(self, partition: int, queue: deque[ConsumerRecord]) -> bool:
        """End what is addressed here; what is addressed to nobody goes on to who is next."""
        come: list[tuple[ConsumerRecord, Errand]] = []
        strays: list[Errand] = []
        for record in queue:
            try:
                errand = self.decoded(record)
            except WireError as exc:
                self.skip(record, exc)
                continue
            if errand.about.next == WEIGH:
                come.append((record, errand))
            elif errand.about.next and not self.route.knows(errand.about.next):
                strays.append(self.route.onward(errand))
        if come:
            await self._end(partition, come)
        if strays:
            await self.pass_on(strays)
        queue.clear()
        return True

    async def _end(self, partition: int, come: Sequence[tuple[ConsumerRecord, Errand]]) -> None:
        if partition not in self._ends:
            since_ms = min(record.timestamp for record, _ in come) - _SLACK_MS
            self._ends[partition] = await self._ended_since(partition, since_ms)
        ends, now_ms = self._ends[partition], int(time.time() * 1000)
        letters = await self._letters(partition, [errand.about.letter for _, errand in come])
        written: dict[End, list[Record]] = {"dead-letter": [], "decision": []}
        notes: list[Record] = []
        for record, errand in come:
            at = (errand.offset, errand.about.attempt)
            try:
                _check_letter(errand.about, letters)
                end = ends.of(errand.about)
                if end is None:
                    end, made = self._judged(errand, now_ms)
                    written[end].append(made)
                    ends.add(*at, end)
                    self.wiring.metrics.observe_redriven(end)
            except WireError as exc:
                self.skip(record, exc)
                continue
            if at not in ends.noted:
                ends.noted.add(at)
                notes.append(encoded(errand.ended(end), now_ms))
        # The note last: what a crash leaves without one is found by `_ended_since`.
        topology = self.wiring.topology
        await self._write(topology.dead_letters, partition, written["dead-letter"])
        await self._write(topology.decisions, partition, written["decision"])
        await self._write(topology.redrive, partition, notes)

    async def _write(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        if records:
            await self.wiring.app.writer.write(topic, partition, records)

    def _judged(self, errand: Errand, now_ms: int) -> tuple[End, Record]:
        """The end of an errand, and its record."""
        attempt = errand.about.attempt
        joined = joined_of(errand, self.wiring.pipeline.weighting.inputs)
        verdict, row = self._slot.terms.scale.verdict(joined), np.array([0])
        if verdict.decidable[0]:
            made = self._slot.terms.decisions.records(
                errand.partition, joined, row, verdict.weighed, now_ms, attempt=attempt
            )
            return "decision", next(made)
        source = errand.about.source
        cause = causes_of_death(joined, verdict, row)[0]
        original = (errand.key, errand.value, errand.headers)
        return "dead-letter", dead_letter(
            cause, (source.topic, source.partition, source.offset), original, now_ms,
            published_ms=errand.about.published_ms, attempt=attempt,
        )  # fmt: skip

    async def _letters(
        self, partition: int, offsets: Sequence[int]
    ) -> dict[int, ConsumerRecord | None]:
        """Dead letters by offset: None for one that retention has deleted, none that never was."""
        topic = self.wiring.topology.dead_letters
        first, end = await self._tail.bounds(topic, partition)
        found: dict[int, ConsumerRecord | None] = {o: None for o in offsets if o < first}
        there = sorted({offset for offset in offsets if first <= offset < end})
        for start, stop in ranges(there):
            records = await self._tail.between(topic, partition, start, stop)
            found.update((record.offset, record) for record in records)
        return found

    async def _ended_since(self, partition: int, since_ms: int) -> _Ends:
        """What the redrive topic says, and what was written but not noted before a crash."""
        ends, topology = _Ends(), self.wiring.topology
        async for records in self._tail.chunks(topology.redrive, partition, 0):
            for record in records:
                with suppress(WireError):
                    about = about_of(record.headers)
                    if about.end is not None:
                        ends.add(about.source.offset, about.attempt, about.end)
                        ends.noted.add((about.source.offset, about.attempt))
        await self._add(ends, topology.decisions, partition, since_ms, "decision")
        await self._add(ends, topology.dead_letters, partition, since_ms, "dead-letter")
        return ends

    async def _add(
        self, ends: _Ends, topic: str, partition: int, since_ms: int, end: End
    ) -> None:  # fmt: skip
        start = await self._tail.since(topic, partition, since_ms)
        async for records in self._tail.chunks(topic, partition, start):
            for record in records:
                with suppress(KeyError, ValueError):  # others' records
                    offset, attempt = attempt_at(record, is_decision=end == "decision")
                    if attempt > 1:
                        ends.add(offset, attempt, end)


def _check_letter(about: About, letters: Mapping[int, ConsumerRecord | None]) -> None:
    """Raise WireError unless the errand is about what its dead letter says is dead."""
    if about.letter not in letters:
        raise WireError("not an errand: there is no such dead letter")
    letter = letters[about.letter]
    if letter is None:
        return
    try:
        said = (*dead_letters.source_of(letter.headers), dead_letters.attempt_of(letter.headers))
    except (KeyError, ValueError) as exc:
        raise WireError("not an errand: its dead letter is none") from exc
    of = about.source
    if said != (of.topic, of.partition, of.offset, about.attempt - 1):
        raise WireError("not an errand: its dead letter is about another event or attempt")
