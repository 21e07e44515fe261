"""The explainer's work: decisions of a fetch, the records that they were made by, explanations.

An explanation is on the broker before the offset of its decision is committed, in the order of the
decisions, and names its decision's offset. So whoever is given a partition reads the tail of
`<pipeline>.explanations` there, and goes on behind the last decision that is explained: after a
crash or a rebalance, too, each decision has one explanation, as far as leases hold (as for stage
batches, see `agents.recovery`).

What cannot be explained holds up nothing: it is counted, by reason, and said now and then. Nor does
being behind: decisions that are older than `explain: shed_after:` are counted and passed over.
Those that were so old when the first explainer came are nobody's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
from aiokafka.structs import ConsumerRecord
from faust.types import TP

from agents.explainer.output_follower import OutputFollower
from agents.explainer.selection import Selection
from agents.explanations import (
    DecisionArchive,
    DecisionExplainer,
    EventFields,
    Explanation,
    NotComputed,
    NotExplained,
    OutputGone,
    RecordedDecision,
    RecordedEvent,
    named,
    recorded_decision,
)
from agents.workers import Wiring, Worker
from models.registry import RegistryError
from topics.kafka import Record
from topics.pipeline import duration_ms
from topics.records import StageBatch, explained_offset, explanation_headers, rfc3339_time
from topics.transport import Fetch

log = logging.getLogger(__name__)

SHED, DELETED, UNREADABLE, REGISTRY = "shed", "deleted", "unreadable", "registry"
REASONS = (
    SHED, DELETED, UNREADABLE, REGISTRY,
    *sorted(kind.reason for kind in NotExplained.__subclasses__()),
)  # fmt: skip
"""Why a decision that was asked for is not explained."""
_AT_ONCE = 32
"""Decisions that are explained in one go: their rows fit the cache of a core."""
_SAY_EVERY_S = 60.0

Explained = Explanation | NotExplained | RegistryError


@dataclass(slots=True)
class ExplainedPartition:
    """What there is of a partition that this worker owns."""

    explained_to: int
    """Offset of the last decision that has an explanation; -1 without any."""
    expected: int
    """Offset of the next decision; records before it that were deleted are missed."""
    since_ms: float
    """Decisions of before are no concern: there was no explainer then."""
    outputs: dict[str, OutputFollower] = field(default_factory=dict)


class _Chosen:
    """A decision that is to be explained, and its record."""

    __slots__ = ("record", "recorded", "wanted")

    def __init__(
        self, record: ConsumerRecord, recorded: RecordedDecision, wanted: list[str]
    ) -> None:
        self.record, self.recorded, self.wanted = record, recorded, wanted


class ExplainerWorker(Worker[ExplainedPartition]):
    """Reads `<pipeline>.decisions`, writes `<pipeline>.explanations`."""

    def __init__(self, wiring: Wiring, explainer: DecisionExplainer) -> None:
        super().__init__(wiring, [wiring.topology.decisions])
        explain = wiring.pipeline.explain
        self._explainer = explainer
        self._selection = Selection(explain)
        self._shed_after_ms = duration_ms(explain.shed_after)
        self._archive = DecisionArchive(self.tail, wiring.topology)
        self._fields = EventFields(self.tail, wiring.pipeline)
        self._complaints = Complaints()
        wiring.metrics.observe_explained({}, dict.fromkeys(REASONS, 0))

    async def open_state(self, partition: int) -> ExplainedPartition:
        """Go on behind the last decision that has an explanation."""
        tp = TP(self.topology.decisions, partition)
        explained = await self._last_explained(tp)
        first, _ = await self.tail.bounds(tp.topic, partition)
        committed = self.wiring.app.batches.committed(tp)
        is_new = explained < 0 and committed <= 0 and await self._is_first()
        followers = {
            spec.name: OutputFollower(self.tail, self.topology, spec.name, partition)
            for spec in self.wiring.pipeline.components
        }
        return ExplainedPartition(
            explained,
            first if is_new else max(explained + 1, committed),
            time.time() * 1000 - self._shed_after_ms if is_new else 0,
            followers,
        )

    async def _is_first(self) -> bool:
        """Whether no explainer has explained anything yet, in any partition.

        What an empty partition gets while explainers are away is theirs all the same.
        """
        for partition in range(self.topology.partitions):
            _, end = await self.tail.bounds(self.topology.explanations, partition)
            if end > 0:
                return False
        return True

    async def _last_explained(self, tp: TP) -> int:
        """Offset of the last decision that has an explanation; -1 without any.

        Also where decisions were made anew: one of another event stands there then, or none.
        """
        events = dict[int, bytes]()

        def read(record: ConsumerRecord) -> int:
            offset = explained_offset(record.headers)
            events[offset] = _event(record)
            return offset

        offsets = await self.tail.last_read(self.topology.explanations, tp.partition, read)
        if not offsets:
            return -1
        explained = offsets[-1]
        _, end = await self.tail.bounds(tp.topic, tp.partition)
        there = await self.tail.between(tp.topic, tp.partition, explained, explained + 1)
        if end > explained and all(_event(each) == events[explained] for each in there):
            return explained
        log.warning(
            "%s[%d] is another topic than the one whose decisions were explained: it is explained "
            "from its beginning on", tp.topic, tp.partition,
        )  # fmt: skip
        return -1

    async def process(self, fetch: Fetch) -> None:
        """Explain what is asked for of each partition; returns when it is on the broker."""
        for tp, records in fetch.records.items():
            state = await self.state(tp.partition)
            await self._count_deleted(tp, state, records[0].offset)
            chosen: list[_Chosen] = []
            for record in records:
                if (each := self._chosen(state, record)) is not None:
                    chosen.append(each)
                if len(chosen) == _AT_ONCE:
                    await self._explain(tp, state, chosen, record.offset)
                    chosen = []
            await self._explain(tp, state, chosen, records[-1].offset)

    def _chosen(self, state: ExplainedPartition, record: ConsumerRecord) -> _Chosen | None:
        """The decision of a record, if it is to be explained and can be, as far as it says."""
        if record.offset <= state.explained_to or record.timestamp < state.since_ms:
            return None
        try:
            about = orjson.loads(record.value or b"")
            if not self._selection.asks_for(about["decision"], _event(record)):
                return None
        except (KeyError, TypeError, ValueError):  # others' records
            self._passed_over(UNREADABLE, None)
            return None
        if time.time() * 1000 - record.timestamp > self._shed_after_ms:
            self._passed_over(SHED, None)
        elif (recorded := self._recorded(record)) is None:
            self._passed_over(UNREADABLE, None)
        else:
            try:
                return _Chosen(record, recorded, self._explainer.wanted(recorded.decision))
            except NotExplained as exc:
                self._passed_over(exc.reason, exc)
        return None

    def _recorded(self, record: ConsumerRecord) -> RecordedDecision | None:
        """What a record decides; None unless it is about the event of its `ce_id`.

        That is one of this pipeline and partition: nothing else is read because a record says so.
        """
        if (recorded := recorded_decision(record)) is None:
            return None
        source = recorded.source
        own = (source.topic, source.partition) == (self.topology.events, record.partition)
        return recorded if own and named(source).encode() == _event(record) else None

    async def _explain(
        self, tp: TP, state: ExplainedPartition, chosen: Sequence[_Chosen], last: int
    ) -> None:
        """Explain these decisions of a partition; all up to offset *last* are dealt with then."""
        started = time.perf_counter()
        self.steps += 1
        if chosen:
            events, records = await self._events(state, chosen)
            results = await asyncio.to_thread(explained, self._explainer, events)
            await self._write(tp.partition, records, results)
            state.explained_to = max(state.explained_to, *(each.record.offset for each in chosen))
        state.expected = last + 1
        self.wiring.app.batches.done({tp: last + 1})
        self.wiring.metrics.observe_batch(len(chosen), time.perf_counter() - started)

    async def _events(
        self, state: ExplainedPartition, chosen: Sequence[_Chosen]
    ) -> tuple[list[RecordedEvent], list[ConsumerRecord]]:
        """What was recorded of the events, of those of which everything still is; their records."""
        followed = await self._followed(state, chosen)
        fields = await self._fields.of([each.recorded.source for each in chosen])
        events, records = [], []
        for each in chosen:
            offset = each.recorded.source.offset
            rows = {
                name: followed[name][offset]
                for name in each.wanted
                if offset in followed.get(name, {})
            }
            if len(rows) < len(each.wanted):
                try:  # of a redriven event, or one whose producer's clock was wrong
                    rows = await self._archive.outputs(each.recorded, each.wanted)
                except OutputGone as exc:
                    self._passed_over(exc.reason, exc)
                    continue
            source = each.recorded.source
            events.append(RecordedEvent(each.recorded.decision, rows, fields.get(source, {})))
            records.append(each.record)
        return events, records

    async def _followed(
        self, state: ExplainedPartition, chosen: Sequence[_Chosen]
    ) -> dict[str, dict[int, StageBatch]]:
        """Component → source offset → its row, of the first attempts at events."""
        followed = dict[str, dict[int, StageBatch]]()
        first = [each for each in chosen if each.recorded.attempt == 1]
        since_ms = min((each.recorded.published_ms for each in first), default=0)
        for name in dict.fromkeys(name for each in first for name in each.wanted):
            offsets = sorted({each.recorded.source.offset for each in first if name in each.wanted})
            followed[name] = await state.outputs[name].rows(offsets, since_ms)
        return followed

    async def _write(
        self, partition: int, records: Sequence[ConsumerRecord], results: Sequence[Explained]
    ) -> None:
        now_ms = int(time.time() * 1000)
        at, explained = rfc3339_time(now_ms), []
        decisions: dict[str, int] = {}
        ages_s: list[float] = []
        for record, result in zip(records, results, strict=True):
            if not isinstance(result, Explanation):
                reason = result.reason if isinstance(result, NotExplained) else REGISTRY
                self._passed_over(reason, result)
                continue
            headers = explanation_headers(
                record.headers, record.offset, self.wiring.pipeline.name, at
            )
            value = result.model_dump_json(by_alias=True).encode()
            explained.append(Record(record.key, value, now_ms, headers))
            decisions[result.decision] = decisions.get(result.decision, 0) + 1
            ages_s.append(max(0.0, (now_ms - record.timestamp) / 1000))
        if explained:
            await self.wiring.app.writer.write(self.topology.explanations, partition, explained)
            self.wiring.metrics.observe_explained(decisions, {}, np.array(ages_s))

    async def _count_deleted(self, tp: TP, state: ExplainedPartition, first: int) -> None:
        """Decisions that retention has deleted before they were looked at."""
        if first > state.expected:
            there, _ = await self.tail.bounds(tp.topic, tp.partition)
            if (deleted := min(there, first) - state.expected) > 0:
                self.wiring.metrics.observe_explained({}, {DELETED: deleted})
                log.warning(
                    "%s[%d]: %d decisions were deleted before the explainer looked at them",
                    tp.topic, tp.partition, deleted,
                )  # fmt: skip

    def _passed_over(self, reason: str, cause: Exception | None) -> None:
        """A decision that was asked for is not explained."""
        self.wiring.metrics.observe_explained({}, {reason: 1})
        self._complaints.note(reason, cause)


def explained(explainer: DecisionExplainer, events: Sequence[RecordedEvent]) -> list[Explained]:
    """What *explainer* says of *events*; what it fails on is one of them, not all."""
    try:
        return explainer.explain(events)
    except Exception as exc:  # the boundary to models of any kind
        if len(events) == 1:
            return [NotComputed(events[0].decision.source, exc)]
        return [result for event in events for result in explained(explainer, [event])]


def _event(record: ConsumerRecord) -> bytes:
    """Coordinates of the event that a decision or explanation is about. Raises KeyError."""
    return dict(record.headers)["ce_id"] or b""


class Complaints:
    """Says of each reason, now and then, how many decisions are not explained, and why."""

    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def note(self, reason: str, cause: Exception | None) -> None:
        """One more decision is not explained."""
        self._unsaid[reason] = self._unsaid.get(reason, 0) + 1
        now = time.monotonic()
        if now - self._said_at.get(reason, -_SAY_EVERY_S) >= _SAY_EVERY_S:
            self._said_at[reason] = now
            log.warning(
                "%d decisions are not explained (%s)%s", self._unsaid.pop(reason), reason,
                f", the last one because {cause}" if cause is not None else "",
            )  # fmt: skip
