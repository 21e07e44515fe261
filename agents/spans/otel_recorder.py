"""Spans of recorded events, made by OpenTelemetry's SDK with the ids that follow from coordinates.

Of each event a tree, each span in the trace of the event:

    event                          from its publication to its end; below its producer's span
    ├── process features           a component's, from when its first input came to its output
    │   ├── join features          until its last input came, where it has several
    │   └── process risk           of what reads it: below the first of its inputs, with links to
    │                              the others
    └── process terminals.keyed

and of each batch with recorded events a trace of its own, with links to their spans: `process` with
`send` below it. Attributes as OpenTelemetry's conventions for messaging have them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

from agents.spans.event_context import (
    SAMPLED,
    EventContext,
    Sampling,
    TraceParent,
    batch_ids,
    span_id,
)
from agents.spans.otel_export import CLOSE_MS, CountingExporter, Dropped
from agents.spans.recorder import RowEnd
from topics.pipeline import EVENTS, KEYED, WEIGH, Pipeline, Topology, workers
from topics.records import BytesColumn, Rows, StageBatch

MOST_EVENTS = 128
"""So many events of a batch are recorded: a batch's span links to no more, and more take time."""
_MOST_ARRIVALS = 10_000
"""Rows in joins of which it is remembered when they came."""
_MOST_BATCHES = 8
_EVENT = "event"


class OtelRecorder:
    """Records spans of one pipeline's events."""

    def __init__(
        self, pipeline: Pipeline, sampling: Sampling, exporter: CountingExporter,
        queue_size: int, dropped: Dropped,
    ) -> None:  # fmt: skip
        """Raises ValueError for sizes and times of the environment that do not fit each other."""
        self._topology = Topology.of(pipeline)
        self._inputs = _inputs_of(pipeline)
        self._groups = {name: self._topology.group(name) for name in self._inputs} | {
            name: self._topology.group(worker)
            for worker, names in workers(pipeline).items()
            for name in names
        }
        self._sampling, self._dropped = sampling, dropped
        self._ids = _NextIds()
        resource = Resource.create({"service.name": "anabranch"})
        provider = TracerProvider(
            sampler=ALWAYS_ON, id_generator=self._ids, shutdown_on_exit=False,
            resource=resource.merge(OTELResourceDetector().detect()),
        )  # fmt: skip
        self._processor = _BoundedProcessor(exporter, queue_size, dropped)
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("anabranch")
        self._known: dict[int, tuple[Rows, list[EventContext]]] = {}
        self._arrivals: dict[tuple[str, int, int], int] = {}
        """Component, source partition and offset → when the first input came."""

    def arrived(self, component: str, batch: StageBatch) -> None:
        """Remember when the first input of recorded rows came."""
        now_ns = time.time_ns()
        for each in self._recorded(batch.partition, batch.rows):
            self._arrivals.setdefault((component, batch.partition, each.offset), now_ns)
        while len(self._arrivals) > _MOST_ARRIVALS:
            del self._arrivals[next(iter(self._arrivals))]

    def processed(self, component: str, batch: StageBatch, began_ns: int) -> None:
        """A span for each recorded event, and one for the batch."""
        recorded = self._recorded(batch.partition, batch.rows, count_dropped=True)
        if not recorded:
            return
        ended_ns, partition = time.time_ns(), batch.partition
        failures = {failure.row: failure for failure in batch.failures}
        attributes = self._attributes("process", component, partition)
        of_batch = _context(
            *batch_ids(batch.topic, partition, int(batch.rows.offsets[0]), component)
        )
        for each in recorded:
            failure = failures.get(each.row)
            own: dict[str, Any] = {
                "anabranch.component": component,
                "anabranch.model": batch.model.model,
            }
            if batch.present[each.row]:
                own["anabranch.signal"] = float(batch.signal[each.row])
            self._process(
                component, partition, each, (began_ns, ended_ns),
                {**attributes, **own, "messaging.kafka.offset": each.offset},
                links=[Link(of_batch)], error=None if failure is None else failure.error,
            )  # fmt: skip
        links = [Link(self._span(partition, each, component)) for each in recorded]
        self._emit(
            f"process {component}", of_batch, None, (began_ns, ended_ns), links=links,
            attributes={**attributes, "messaging.batch.message_count": len(batch)},
        )  # fmt: skip

    def sent(self, topic: str, batch: StageBatch, began_ns: int) -> None:
        """A span below that of the batch, where that has one."""
        if not self._recorded(batch.partition, batch.rows):
            return
        first = int(batch.rows.offsets[0])
        trace_id, parent = batch_ids(batch.topic, batch.partition, first, batch.component)
        _, own = batch_ids(batch.topic, batch.partition, first, f"{batch.component}, sent")
        self._emit(
            f"send {topic}", _context(trace_id, own), parent, (began_ns, time.time_ns()),
            kind=SpanKind.PRODUCER,
            attributes={
                "messaging.system": "kafka", "messaging.operation.name": "send",
                "messaging.operation.type": "send", "messaging.destination.name": topic,
                "messaging.destination.partition.id": str(batch.partition),
                "messaging.batch.message_count": len(batch),
            },
        )  # fmt: skip

    def outgoing(self, partition: int, rows: Rows) -> Rows:
        """The same rows; decisions of recorded ones name the span of the weighting agent."""
        recorded = self._recorded(partition, rows)
        if not recorded:
            return rows
        traces = [b""] * len(rows) if rows.traces is None else [*rows.traces.items()]
        for each in recorded:
            of_end = self._span(partition, each, WEIGH)
            traces[each.row] = bytes(TraceParent(each.trace_id, of_end.span_id, SAMPLED))
        return replace(rows, traces=BytesColumn.of(traces))

    def ended(
        self, partition: int, rows: Rows, which: Sequence[int], began_ns: int,
        end: Callable[[int], RowEnd],
    ) -> None:  # fmt: skip
        """The weighting agent's span, and that of the whole event."""
        recorded, ended = self._recorded(partition, rows, count_dropped=True), set(which)
        now_ns = time.time_ns()
        for each in recorded:
            if each.row not in ended:
                continue
            how = end(each.row)
            attributes = {
                **self._attributes("process", WEIGH, partition),
                "messaging.kafka.offset": each.offset, "anabranch.component": WEIGH,
                "anabranch.degraded": how.degraded,
            }  # fmt: skip
            if how.decision is not None:
                attributes["anabranch.decision"] = how.decision
            if how.score is not None:
                attributes["anabranch.score"] = how.score
            self._process(WEIGH, partition, each, (began_ns, now_ns), attributes, (), how.error)
            published_ns = int(rows.published_ms[each.row]) * 1_000_000
            self._emit(
                f"{_EVENT} {self._topology.pipeline}", self._span(partition, each, _EVENT),
                each.parent, (min(published_ns, now_ns), now_ns), error=how.error,
                attributes={
                    "messaging.system": "kafka",
                    "messaging.destination.name": self._topology.events,
                    "messaging.destination.partition.id": str(partition),
                    "messaging.kafka.offset": each.offset,
                    "messaging.message.id": f"{self._topology.events}/{partition}/{each.offset}",
                },
            )  # fmt: skip

    def close(self) -> None:
        """Send what there is; returns after two seconds at the latest."""
        self._processor.end()

    def _recorded(
        self, partition: int, rows: Rows, *, count_dropped: bool = False
    ) -> list[EventContext]:
        """Those of *rows* that are recorded, so many as may be."""
        contexts = self._contexts(partition, rows)
        if count_dropped and len(contexts) > MOST_EVENTS:
            self._dropped("batch", len(contexts) - MOST_EVENTS)
        return contexts[:MOST_EVENTS]

    def _contexts(self, partition: int, rows: Rows) -> list[EventContext]:
        """All of a batch; those of the last batches are kept, as each is asked for some times."""
        known = self._known.get(id(rows))
        if known is None or known[0] is not rows:
            known = rows, self._sampling.contexts(self._topology.events, partition, rows)
            self._known[id(rows)] = known
            if len(self._known) > _MOST_BATCHES:
                del self._known[next(iter(self._known))]
        return known[1]

    def _process(
        self, component: str, partition: int, event: EventContext, times: tuple[int, int],
        attributes: dict[str, Any], links: Iterable[Link], error: str | None,
    ) -> None:  # fmt: skip
        """A component's span of an event, with that of its join where there was one."""
        first, *others = self._inputs[component]
        own = self._span(partition, event, component)
        began_ns, ended_ns = times
        arrived_ns = self._arrivals.pop((component, partition, event.offset), None)
        if arrived_ns is not None:
            arrived_ns = min(arrived_ns, began_ns)
            join = self._span(partition, event, f"join of {component}")
            self._emit(f"join {component}", join, own.span_id, (arrived_ns, began_ns),
                       kind=SpanKind.INTERNAL)  # fmt: skip
        self._emit(
            f"process {component}", own, self._span(partition, event, first).span_id,
            (began_ns if arrived_ns is None else arrived_ns, ended_ns), attributes=attributes,
            links=[*links, *(Link(self._span(partition, event, name)) for name in others)],
            error=error,
        )  # fmt: skip

    def _span(self, partition: int, event: EventContext, what: str) -> SpanContext:
        own = span_id(self._topology.events, partition, event.offset, what)
        return _context(event.trace_id, own)

    def _attributes(self, operation: str, component: str, partition: int) -> dict[str, Any]:
        first = self._inputs[component][0]
        topic = self._topology.stage(EVENTS if first == _EVENT else first)
        return {
            "messaging.system": "kafka", "messaging.operation.name": operation,
            "messaging.operation.type": operation, "messaging.destination.name": topic,
            "messaging.destination.partition.id": str(partition),
            "messaging.consumer.group.name": self._groups[component],
        }  # fmt: skip

    def _emit(
        self, name: str, context: SpanContext, parent: int | None, times: tuple[int, int], *,
        kind: SpanKind = SpanKind.CONSUMER, attributes: dict[str, Any] | None = None,
        links: Sequence[Link] = (), error: str | None = None,
    ) -> None:  # fmt: skip
        """End a span with the ids of *context*."""
        self._ids.next = (context.trace_id, context.span_id)
        above = trace.INVALID_SPAN if parent is None else NonRecordingSpan(
            _context(context.trace_id, parent)
        )  # fmt: skip
        span = self._tracer.start_span(
            name, trace.set_span_in_context(above), kind, attributes, links, start_time=times[0]
        )
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(max(times))


class _NextIds(IdGenerator):
    """Gives the ids of the span that is made next."""

    next = (0, 0)

    def generate_trace_id(self) -> int:
        """Of a span without a parent."""
        return self.next[0]

    def generate_span_id(self) -> int:
        """Of any span."""
        return self.next[1]


class _BoundedProcessor(BatchSpanProcessor):
    """Lets in as many spans as its queue holds, and counts the others."""

    def __init__(self, exporter: CountingExporter, size: int, dropped: Dropped) -> None:
        super().__init__(exporter, size)  # type: ignore[arg-type]  # it has an exporter's methods
        self._sent, self._size, self._dropped = exporter, size, dropped
        self._let_in = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span, or count it."""
        if self._let_in - self._sent.taken >= self._size:
            self._dropped("queue", 1)
            return
        self._let_in += 1
        super().on_end(span)

    def end(self) -> None:
        """Send what is queued; what is not sent by the deadline is dropped."""
        self._batch_processor.shutdown(CLOSE_MS)
        if left := self._let_in - self._sent.taken:
            self._dropped("queue", left)


def _inputs_of(pipeline: Pipeline) -> dict[str, Sequence[str]]:
    """What each component reads, whose spans its own is below, or links to; the events first."""
    inputs: dict[str, Sequence[str]] = {WEIGH: pipeline.weighting.inputs}
    for spec in pipeline.components:
        read = [_EVENT if name == EVENTS else name for name in spec.inputs]
        if pipeline.is_repartitioned(spec.name):
            inputs[spec.name + KEYED] = read
            read = [spec.name + KEYED]
        inputs[spec.name] = read
    return inputs


def _context(trace_id: int, own: int) -> SpanContext:
    return SpanContext(trace_id, own, is_remote=True, trace_flags=TraceFlags(SAMPLED))
