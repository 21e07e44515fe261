"""Which events are recorded, what their spans are called, and what there is no room for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from agents.spans.event_context import EventContext, Sampling, TraceParent, batch_ids, span_id
from agents.spans.otel_export import CountingExporter, opened_recorder
from agents.spans.otel_recorder import MOST_EVENTS, OtelRecorder
from agents.spans.recorder import NO_SPANS, RowEnd
from tests.unit.stage_batches import batch_of, rows_of
from topics.errors import InvalidSettings
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.records.bytes_column import BytesColumn
from topics.records.stage_batch import Rows

PIPELINE = load_pipeline(find_pipeline("card-fraud")).pipeline
EVENTS = "card-fraud.events"
SAMPLED = TraceParent(2**127 + 5, 7, 1)
UNSAMPLED = TraceParent(2**126 + 5, 7, 0)
ALL = Sampling(1.0, by_parent=True)


class Memory(SpanExporter):
    """Keeps spans, or refuses them."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.spans: list[ReadableSpan] = []
        self._result = result

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return self._result


class Recording:
    """A recorder whose spans stay here."""

    def __init__(self, exporter: SpanExporter, sampling: Sampling = ALL, queue: int = 2048) -> None:
        self.dropped: Counter[str] = Counter()
        counting = CountingExporter(exporter, "http://nowhere", self._count)
        self.recorder = OtelRecorder(PIPELINE, sampling, counting, queue, self._count)

    def _count(self, reason: str, count: int) -> None:
        self.dropped[reason] += count


def with_traces(rows: Rows, *traces: bytes) -> Rows:
    return replace(rows, traces=BytesColumn.of(traces))


def test_ids_follow_from_coordinates_alone() -> None:
    (first, second) = ALL.contexts(EVENTS, 3, rows_of([7, 8]))
    assert first == EventContext(0, 7, first.trace_id, None)
    assert (first,) == (*ALL.contexts(EVENTS, 3, rows_of([7])),), "in any batch"
    ids = {first.trace_id, second.trace_id, ALL.contexts(EVENTS, 4, rows_of([7]))[0].trace_id,
           ALL.contexts("other.events", 3, rows_of([7]))[0].trace_id}  # fmt: skip
    assert len(ids) == 4
    assert f"{first.trace_id:032x}" == "851637a6a7cbbdcf7dcc00105c64473c", (
        "or components of two versions disagree"
    )
    assert f"{span_id(EVENTS, 3, 7, 'features'):016x}" == "9b8278f787b3faa8"
    assert batch_ids(EVENTS, 3, 7, "features") != batch_ids(EVENTS, 3, 8, "features")


@pytest.mark.parametrize("ratio", [0.0, 0.001, 0.1, 0.5, 1.0])
def test_a_share_of_events_is_recorded_as_other_services_would_of_the_same_ids(
    ratio: float,
) -> None:
    rows = rows_of(range(20_000))
    recorded = {each.row for each in Sampling(ratio).contexts(EVENTS, 0, rows)}
    assert len(recorded) == pytest.approx(20_000 * ratio, abs=5 * np.sqrt(20_000 * ratio))
    theirs = TraceIdRatioBased(ratio)
    for each in ALL.contexts(EVENTS, 0, rows)[:2000]:
        decision = theirs.should_sample(None, each.trace_id, "event").decision
        assert (decision is Decision.RECORD_AND_SAMPLE) == (each.row in recorded)


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=16, unique=True))
def test_few_rows_and_many_are_hashed_alike(offsets: list[int]) -> None:
    offsets = sorted(offsets)
    many = sorted({*offsets, *range(40)})
    half = Sampling(0.5)
    of_few = {each.offset: each.trace_id for each in half.contexts(EVENTS, 2, rows_of(offsets))}
    of_many = {each.offset: each.trace_id for each in half.contexts(EVENTS, 2, rows_of(many))}
    assert of_few == {offset: of_many[offset] for offset in offsets if offset in of_many}


def test_a_producer_that_names_a_trace_says_whether_it_is_recorded() -> None:
    rows = with_traces(rows_of(range(4)), bytes(SAMPLED), bytes(UNSAMPLED), b"nonsense", b"")
    by_parent = Sampling(0.0).contexts(EVENTS, 0, rows)
    assert by_parent == [EventContext(0, 0, SAMPLED.trace_id, SAMPLED.span_id)]
    assert [each.row for each in ALL.contexts(EVENTS, 0, rows)] == [0, 2, 3]
    by_ratio = Sampling(1.0, by_parent=False).contexts(EVENTS, 0, rows)
    assert [each.row for each in by_ratio] == [0, 1, 2, 3]
    assert Sampling(0.0, by_parent=False).contexts(EVENTS, 0, rows) == []


@given(st.binary(max_size=60))
def test_any_header_is_a_trace_or_none(header: bytes) -> None:
    parent = TraceParent.of(header)
    assert parent is None or bytes(parent)[2:] == header[2:]


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_a_header_that_is_written_is_read(trace: int, span: int, flags: int) -> None:
    parent = TraceParent(trace, span, flags)
    assert TraceParent.of(bytes(parent)) == parent


def test_of_a_batch_no_more_events_are_recorded_than_it_can_link_to() -> None:
    memory = Memory()
    recording = Recording(memory)
    recording.recorder.processed("features", batch_of("features", range(200)), time.time_ns())
    recording.recorder.close()
    (batch,) = [span for span in memory.spans if span.attributes and
                "messaging.batch.message_count" in span.attributes]  # fmt: skip
    assert len(batch.links) == MOST_EVENTS == 128
    assert batch.dropped_links == 0
    assert len(memory.spans) == 1 + MOST_EVENTS
    assert recording.dropped == {"batch": 200 - MOST_EVENTS}


def test_what_has_no_room_in_the_queue_is_counted() -> None:
    memory = Memory()
    recording = Recording(memory, queue=600)
    for first in range(0, 1280, 128):
        batch = batch_of("features", range(first, first + 128))
        recording.recorder.processed("features", batch, time.time_ns())
    recording.recorder.close()
    assert len(memory.spans) + recording.dropped["queue"] == 10 * 129


def test_what_the_endpoint_does_not_take_is_counted() -> None:
    class Broken(Memory):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            raise OSError("no route")

    for exporter in (Memory(SpanExportResult.FAILURE), Broken()):
        recording = Recording(exporter)
        batch = batch_of("features", [1])
        recording.recorder.processed("features", batch, time.time_ns())
        recording.recorder.close()
        assert recording.dropped == {"export": 2}


def test_ends_say_how_and_decisions_pass_on_the_span_that_made_them() -> None:
    memory = Memory()
    recording = Recording(memory, Sampling(0.0))
    rows = with_traces(rows_of([5, 6, 7]), bytes(SAMPLED), bytes(UNSAMPLED), bytes(SAMPLED))
    outgoing = recording.recorder.outgoing(0, rows)
    assert outgoing.traces is not None
    own = TraceParent(SAMPLED.trace_id, span_id(EVENTS, 0, 5, "weigh"), 1)
    assert outgoing.traces.items()[:2] == [bytes(own), bytes(UNSAMPLED)]
    asked = list[int]()

    def end(row: int) -> RowEnd:
        asked.append(row)
        return RowEnd("approve", 0.25, None) if row == 0 else RowEnd(None, None, "StageDown")

    recording.recorder.ended(0, rows, [0, 1, 2], time.time_ns(), end)
    recording.recorder.close()
    assert asked == [0, 2], "of no others"
    spans: dict[Any, Any] = {(span.name, span.attributes["messaging.kafka.offset"]): span
                             for span in memory.spans if span.attributes}  # fmt: skip
    decided, dead = spans["process weigh", 5], spans["process weigh", 7]
    assert decided.attributes["anabranch.decision"] == "approve"
    assert decided.status.is_ok
    assert dead.attributes["error.type"] == "StageDown"
    assert not dead.status.is_ok
    assert not spans["event card-fraud", 7].status.is_ok
    assert spans["event card-fraud", 5].parent.span_id == SAMPLED.span_id


def test_without_an_endpoint_nothing_is_recorded() -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    nothing: list[dict[str, str]] = [
        {}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, endpoint | {"OTEL_SDK_DISABLED": "TRUE"},
        endpoint | {"OTEL_TRACES_EXPORTER": "none"},
        endpoint | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
    ]  # fmt: skip
    for environment in nothing:
        assert opened_recorder(PIPELINE, lambda *_: None, environment) is NO_SPANS
    batch = batch_of("features", [1])
    assert NO_SPANS.outgoing(0, batch.rows) is batch.rows


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_TRACES_SAMPLER", "xray"), ("OTEL_TRACES_SAMPLER_ARG", "a tenth"),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5"), ("OTEL_TRACES_SAMPLER_ARG", "nan"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"), ("OTEL_BSP_MAX_QUEUE_SIZE", "5"),
    ],
)  # fmt: skip
def test_an_environment_that_cannot_be_followed_is_refused_by_name(
    variable: str, value: str
) -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", variable: value}
    with pytest.raises(InvalidSettings, match=variable[:8]):
        opened_recorder(PIPELINE, lambda *_: None, environment)


def test_samplers_are_opentelemetrys() -> None:
    def sampling(**variables: str) -> Sampling:
        return Sampling.of({f"OTEL_TRACES_{name}": value for name, value in variables.items()})

    assert sampling() == Sampling(0.001, by_parent=True)
    assert sampling(SAMPLER_ARG="0.25") == Sampling(0.25, by_parent=True)
    assert sampling(SAMPLER="traceidratio") == Sampling(1.0, by_parent=False)
    assert sampling(SAMPLER="parentbased_always_on") == Sampling(1.0, by_parent=True)
    assert sampling(SAMPLER="always_off") == Sampling(0.0, by_parent=False)
