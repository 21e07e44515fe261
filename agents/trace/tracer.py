"""Follows an event's coordinates through the topics, and puts together what they tell of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from itertools import groupby
from operator import attrgetter
from typing import Any

from aiokafka.structs import ConsumerRecord

from agents.explanations import (
    SLACK_MS,
    EventRecords,
    RedriveRecord,
    StageRecord,
    model_of,
    recorded_decision,
)
from agents.redrive import DeadLetter, event_id_of
from agents.trace.errors import EventGone
from agents.trace.event_trace import (
    Attempt,
    DecisionEnd,
    EventTrace,
    Hop,
    HopFailure,
    LetterEnd,
    Model,
    Place,
    RedriveStep,
    SourceRecord,
    State,
)
from agents.workers import TailReader
from topics.events import EventDecoder
from topics.pipeline import EVENTS, KEYED, WEIGH, Pipeline, Topology, in_order, lane_of
from topics.records import ORIGIN_HEADER, Decision, Source, StageBatch, attempt_at, rfc3339_time

_LOG_APPEND_TIME = 1
_END_BEFORE_MS = 5_000
"""The weighting agent writes the end of an attempt so long before the record that tells of it, at
most: where it is not there, all since the attempt began is read."""

_End = DecisionEnd | LetterEnd


class EventTracer:
    """Traces events of one pipeline."""

    def __init__(self, tail: TailReader, pipeline: Pipeline) -> None:
        self._tail, self._pipeline = tail, pipeline
        self._topology = Topology.of(pipeline)
        self._records = EventRecords(tail, self._topology)

    async def trace(self, source: Source) -> EventTrace:
        """The way of the event at *source*, which is below the end of its topic.

        Raises EventGone where nothing of it is left.
        """
        event = await self._records.at(source)
        since_ms = None if event is None else event.timestamp - SLACK_MS
        decided = await self._records.decision(source, since_ms)
        buried = None if decided else await self._records.dead_letter(source, since_ms)
        letter = None if buried is None else DeadLetter.of(buried, self._pipeline.event.id)
        if since_ms is None:
            since_ms = _published_ms(decided, letter)
        redrives: list[RedriveRecord] = []
        if decided is None:
            redriven_since = since_ms if buried is None else buried.timestamp - SLACK_MS
            redrives = await self._records.redrives(source, redriven_since or 0)
        if event is None and decided is None and buried is None and not redrives:
            first, _ = await self._tail.bounds(source.topic, source.partition)
            raise EventGone(source, first)
        way = _Way(self._pipeline, source, event)
        await self._add_stages(way, since_ms)
        end = None if decided is None else way.decision_end(decided, way.written)
        attempts = [
            Attempt(
                attempt=1, hops=way.hops(recorded_decision_of(decided)), steps=[],
                end=end if letter is None or buried is None else _letter_end(buried, letter),
            )
        ]  # fmt: skip
        for attempt, records in groupby(redrives, key=attrgetter("attempt")):
            attempts.append(await self._redriven(way, attempt, [*records]))
        return way.told(attempts)

    async def _add_stages(self, way: _Way, since_ms: int | None) -> None:
        """What the stages said of the event at the first attempt."""
        for name in in_order(self._pipeline):
            topic, lane = self._topology.stage(name), None
            if name in self._topology.repartitioned:
                lane = way.lane(name)
                if lane is None:
                    stage = await self._records.in_any_lane(name, way.source, since_ms)
                    lane = None if stage is None else stage.batch.lane
                if lane is not None:
                    way.add(name + KEYED, await self._records.stage(
                        self._topology.keyed(name), way.source, since_ms, partition=lane,
                    ))  # fmt: skip
            way.add(name, await self._records.stage(topic, way.source, since_ms, lane=lane))

    async def _redriven(self, way: _Way, attempt: int, records: Sequence[RedriveRecord]) -> Attempt:
        """One of the later attempts, by what the redrive topic holds of it."""
        record = await self._later_end(way.source, attempt, records)
        decided = recorded_decision_of(record)
        end: _End | None = None
        if record is not None and decided is not None:
            last = [each for each in records if each.batch.end is None][-1:]
            end = way.decision_end(record, {each.batch.next or "": each.record for each in last})
        elif record is not None:
            end = _letter_end(record, DeadLetter.of(record, self._pipeline.event.id))
        return Attempt(
            attempt=attempt, hops=way.redriven_hops(records, decided),
            steps=[_step(each) for each in records], end=end,
        )  # fmt: skip

    async def _later_end(
        self, source: Source, attempt: int, records: Sequence[RedriveRecord]
    ) -> ConsumerRecord | None:
        """The decision or dead letter of a later attempt: these stand in no order."""
        began_ms = records[0].record.timestamp - SLACK_MS
        told = [each.record.timestamp for each in records if each.batch.end is not None]
        kinds = {each.batch.end for each in records} - {None} or {"decision", "dead-letter"}
        windows = [(told[0] - _END_BEFORE_MS, told[0] + SLACK_MS)] if told else []
        for since_ms, until_ms in [*windows, (began_ms, None)]:
            for kind in kinds:
                is_decision = kind == "decision"
                topic = self._topology.decisions if is_decision else self._topology.dead_letters
                start = await self._records.start(topic, source.partition, since_ms)
                chunks = self._tail.chunks(topic, source.partition, start)
                async with aclosing(chunks):
                    async for written in chunks:
                        for record in written:
                            if _ends(record, source.offset, attempt, is_decision=is_decision):
                                return record
                        if until_ms and written and written[-1].timestamp > until_ms:
                            break
        return None


class _Way:
    """What is known of one event so far."""

    def __init__(self, pipeline: Pipeline, source: Source, event: ConsumerRecord | None) -> None:
        self._pipeline, self.source, self._event = pipeline, source, event
        self._topology = Topology.of(pipeline)
        self._stages: dict[str, StageRecord | None] = {}
        self.written: dict[str, ConsumerRecord] = {} if event is None else {EVENTS: event}
        """Hop → its record, of those that are there."""
        self._decided: Decision | None = None
        self._rows: list[StageBatch] = []

    def add(self, hop: str, stage: StageRecord | None) -> None:
        """What stands on a hop's topic; hops are added in the order of the flow."""
        self._stages[hop] = stage
        if stage is not None:
            self.written[hop] = stage.record
            self._rows.append(stage.row)

    def lane(self, name: str) -> int | None:
        """The partition of the event's key for component *name*; None where the event is gone."""
        if self._event is None:
            return None
        count = self._topology.partitions
        decoded = EventDecoder(self._pipeline.event).decode([self._event])
        if not len(decoded.valid):
            return self.source.partition % count
        return lane_of(str(decoded.columns[self._pipeline.entity(name)].tolist()[0]), count)

    def inputs(self, hop: str) -> list[str]:
        """What a hop reads."""
        if hop == WEIGH:
            return [*self._pipeline.weighting.inputs]
        if hop.endswith(KEYED):
            return [EVENTS]
        if hop in self._topology.repartitioned:
            return [hop + KEYED]
        return [*self._pipeline.component(hop).inputs]

    def hops(self, decision: Decision | None) -> list[Hop]:
        """Those of the first attempt."""
        return [
            Hop(
                component=hop, inputs=self.inputs(hop),
                **_times(self.inputs(hop), self.written, self.written.get(hop)),
                **_said(stage), **_weighed(hop, decision),
            )
            for hop, stage in self._stages.items()
        ]  # fmt: skip

    def redriven_hops(
        self, records: Sequence[RedriveRecord], decision: Decision | None
    ) -> list[Hop]:
        """Those of a later attempt: what travelled with the event, and where it came to be."""
        self._decided = decision or self._decided
        travelled = [each for each in records if each.batch.end is None]
        hops: dict[str, Hop] = {}
        before: ConsumerRecord | None = None
        for number, each in enumerate(travelled):
            for name, row in each.outputs_of(self.source).items():
                if name not in hops:
                    written = {} if before is None else {EVENTS: before}
                    times = _times([EVENTS], written, each.record)
                    hops[name] = Hop(
                        component=name, inputs=self.inputs(name), after=None,
                        record=times["record"], reused=number == 0, rows=len(each.batch),
                        queued_and_computed_ms=times["queued_and_computed_ms"],
                        **_row(row), **_weighed(name, decision),
                    )  # fmt: skip
                    self._rows.append(row)
            before = each.record
        order = in_order(self._pipeline)
        return [hops[name] for name in order if name in hops]

    def decision_end(
        self, record: ConsumerRecord, written: Mapping[str, ConsumerRecord]
    ) -> DecisionEnd | None:
        """The end in a decision, which was made of what was *written* before."""
        if (decision := recorded_decision_of(record)) is None:
            return None
        self._decided = decision
        # It waited for no more than what it was made of; of a redriven event that came in one.
        inputs = [
            name for name in self.inputs(WEIGH) if name in written or name not in decision.missing
        ]
        if WEIGH in written:
            inputs = [WEIGH]
        return DecisionEnd(
            **_times(inputs, written, record), decision=decision.decision,
            decided_by=decision.decided_by, instead_of=decision.instead_of,
            propensity=decision.propensity, score=decision.score, degraded=decision.degraded,
            missing=decision.missing_because or dict.fromkeys(decision.missing, "unknown"),
            weights=decision.weights, policy=decision.policy, latency_ms=decision.latency_ms,
        )  # fmt: skip

    def told(self, attempts: Sequence[Attempt]) -> EventTrace:
        """All of it."""
        state = _state(attempts)
        return EventTrace(
            pipeline=self._pipeline.name, event_id=self._event_id(), source=self.source,
            origin=self._origin(), event_time=self._event_time(), published=self._published(),
            state=state, waits_for=self._waits_for(state, attempts), attempts=[*attempts],
            not_known=self._not_known(state),
        )  # fmt: skip

    def _event_id(self) -> str | None:
        if self._decided is not None:
            return self._decided.event_id
        ids = [row.rows.ids.items()[0].decode(errors="replace") for row in self._rows]
        value = None if self._event is None else self._event.value
        return next(filter(None, [*ids, event_id_of(value, self._pipeline.event.id)]), None)

    def _origin(self) -> Source | None:
        if self._decided is not None:
            return self._decided.origin
        headers = {} if self._event is None else dict(self._event.headers)
        return Source.of(headers.get(ORIGIN_HEADER) or b"")

    def _event_time(self) -> str | None:
        if self._decided is not None:
            return self._decided.event_time
        times = [int(row.rows.event_time_ms[0]) for row in self._rows if row.present[0]]
        return rfc3339_time(times[0]) if times else None

    def _published(self) -> SourceRecord | None:
        event = self._event
        if event is None:
            return None
        return SourceRecord(
            record=_place(event),
            clock="broker" if event.timestamp_type == _LOG_APPEND_TIME else "producer",
            key=None if event.key is None else event.key.decode(errors="replace"),
            bytes=len(event.value or b""),
        )

    def _waits_for(self, state: State, attempts: Sequence[Attempt]) -> list[str]:
        if state == "redriven":
            return [step.next for step in attempts[-1].steps[-1:] if step.next is not None]
        if state != "in flight":
            return []
        return [
            hop for hop in (*self._stages, WEIGH)
            if hop not in self.written and all(name in self.written for name in self.inputs(hop))
        ]  # fmt: skip

    def _not_known(self, state: State) -> list[str]:
        sentences = []
        if self._event is None:
            sentences.append(f"the event is gone from {self.source.topic} by retention")
        if state != "in flight":
            sentences += [
                f"{self._topology.stage(hop)} holds no record of the event: gone by retention, or "
                "never written"
                for hop, stage in self._stages.items()
                if stage is None
            ]
        return sentences


def recorded_decision_of(record: ConsumerRecord | None) -> Decision | None:
    """The decision of a record; None where it is none."""
    recorded = None if record is None else recorded_decision(record)
    return None if recorded is None else recorded.decision


def _published_ms(decided: ConsumerRecord | None, letter: DeadLetter | None) -> int | None:
    """When an event that is gone was published, or a little earlier, by how it ended."""
    recorded = None if decided is None else recorded_decision(decided)
    if recorded is not None:
        return recorded.published_ms
    return None if letter is None else letter.published_ms - SLACK_MS


def _ends(record: ConsumerRecord, offset: int, attempt: int, *, is_decision: bool) -> bool:
    try:
        return attempt_at(record, is_decision=is_decision) == (offset, attempt)
    except (KeyError, ValueError):  # others' records
        return False


def _state(attempts: Sequence[Attempt]) -> State:
    end = attempts[-1].end
    if isinstance(end, DecisionEnd):
        return "decided"
    if isinstance(end, LetterEnd):
        return "dead"
    return "redriven" if attempts[-1].attempt > 1 else "in flight"


def _place(record: ConsumerRecord) -> Place:
    return Place(
        topic=record.topic, partition=record.partition, offset=record.offset,
        written_at=rfc3339_time(record.timestamp),
    )  # fmt: skip


def _times(
    inputs: Sequence[str], written: Mapping[str, ConsumerRecord], record: ConsumerRecord | None
) -> dict[str, Any]:
    """Where a record stands, and how long what it was made of had waited, in milliseconds."""
    times: dict[str, Any] = {
        "record": None if record is None else _place(record), "after": None, "in_join_ms": None,
        "queued_and_computed_ms": None,
    }  # fmt: skip
    if not inputs or not all(name in written for name in inputs):
        return times
    last = max(inputs, key=lambda name: written[name].timestamp)
    first_ms = min(written[name].timestamp for name in inputs)
    times["after"] = last
    if len(inputs) > 1:
        times["in_join_ms"] = written[last].timestamp - first_ms
    if record is not None:
        times["queued_and_computed_ms"] = record.timestamp - written[last].timestamp
    return times


def _said(stage: StageRecord | None) -> dict[str, Any]:
    """What a stage's record says of the event."""
    if stage is None:
        return {}
    batch = stage.batch
    return {
        "rows": len(batch), "covers": (batch.covers_from, batch.covers_to), "lane": batch.lane,
        **_row(stage.row),
    }  # fmt: skip


def _row(row: StageBatch) -> dict[str, Any]:
    """What a stage says of the event."""
    model = model_of(row)
    failure = row.failures[0] if row.failures else None
    return {
        "early": row.early is not None and bool(row.early[0]),
        "model": Model(**model._asdict(), challenger=model == row.challenger),
        "signal": float(row.signal[0]) if row.present[0] else None,
        "failure": failure
        and HopFailure(component=failure.component, error=failure.error, reason=failure.reason),
    }


def _weighed(name: str, decision: Decision | None) -> dict[str, Any]:
    """What the decision made of a stage."""
    if decision is None:
        return {}
    if name in decision.missing:
        return {"missing": decision.missing_because.get(name, "unknown")}
    if (share := decision.contributions.get(name)) is None:
        return {}
    return {"weight": share.weight, "contribution": share.contribution}


def _letter_end(record: ConsumerRecord, letter: DeadLetter) -> LetterEnd:
    return LetterEnd(
        record=_place(record), stage=letter.stage, error=letter.error, reason=letter.reason
    )


def _step(redrive: RedriveRecord) -> RedriveStep:
    batch = redrive.batch
    return RedriveStep(
        record=_place(redrive.record), events=len(batch), next=batch.next, end=batch.end,
        refused=batch.refused,
    )  # fmt: skip
