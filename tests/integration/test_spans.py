"""Spans of recorded events arrive at an OTLP receiver: one tree for each event, over all stages."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agents.spans.event_context import TraceParent, span_id
from agents.workers.metrics import Metrics
from tests.integration.harness import (
    Trained,
    pipeline_running,
    publish_raw,
    records_of,
    renamed,
    settled,
    simulated,
)
from tests.integration.otlp_receiver import attributes_of, otlp_receiver
from topics.kafka.batches import Record
from topics.settings import BrokerSettings

TRACED = TraceParent(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, 1)
UNTRACED = TraceParent(0x1AF7651916CD43DD8448EB211C80319C, 0xC7AD6B7169203331, 0)
PARENTS = {
    "event": None,
    "process features": "event",
    "process terminals.keyed": "event",
    "process terminals": "terminals.keyed",
    "process risk-linear": "features",
    "process risk-forest": "features",
    "process decision": "features",
    "process weigh": "features",
    "join risk-linear": "risk-linear",
    "join risk-forest": "risk-forest",
    "join decision": "decision",
    "join weigh": "weigh",
}
"""Span → what its parent is of."""


async def run(own: Trained, broker: BrokerSettings, metrics: Metrics) -> list[Any]:
    """Three events, two of which say what trace they are of; the decision records, by offset."""
    records = [
        Record(key, value, int(time.time() * 1000), headers)
        for (key, value), headers in zip(
            simulated(own.pipeline, 3),
            ([("traceparent", bytes(TRACED))], [("traceparent", bytes(UNTRACED))], []),
            strict=True,
        )
    ]
    name = own.pipeline.name
    async with pipeline_running(own, broker, metrics):
        await publish_raw(broker, f"{name}.events", 1, records)
        await settled(broker, own.pipeline, 3)
    decisions = await records_of(broker, f"{name}.decisions")
    return sorted(decisions, key=lambda record: json.loads(record.value)["source"]["offset"])


def dropped(metrics: Metrics, pipeline: str) -> dict[str, float]:
    return {
        sample.labels["reason"]: sample.value
        for metric in metrics.registry.collect()
        if metric.name == "anabranch_spans_dropped"
        for sample in metric.samples
        if sample.labels["pipeline"] == pipeline and sample.name.endswith("_total")
    }


async def test_an_event_is_one_tree_over_all_stages(
    trained: Trained, tmp_path: Path, broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, metrics = renamed(trained, tmp_path), Metrics()
    name = own.pipeline.name
    with otlp_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_on")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        decisions = await run(own, broker, metrics)
    assert dropped(metrics, name) == {"batch": 0, "queue": 0, "export": 0}
    assert receiver.resources[0]["service.name"] == "anabranch"
    assert receiver.resources[0]["deployment.environment.name"] == "test"

    contexts = [TraceParent.of(dict(each.headers)["traceparent"]) for each in decisions]
    assert contexts[1] == UNTRACED, "its producer has not recorded it: it is passed on as it is"
    assert receiver.of_trace(UNTRACED.trace_id) == []
    for offset, producer in ((0, TRACED.span_id), (2, None)):
        context = contexts[offset]
        assert context is not None
        spans = {span.name.removesuffix(f" {name}"): span
                 for span in receiver.of_trace(context.trace_id)}  # fmt: skip
        assert {*spans} == {*PARENTS}
        assert len(receiver.of_trace(context.trace_id)) == len(PARENTS), "each once"

        def own_id(of: str, offset: int = offset) -> bytes:
            return span_id(f"{name}.events", 1, offset, of).to_bytes(8, "big")

        for span_name, parent in PARENTS.items():
            span, what = spans[span_name], span_name.removeprefix("process ")
            if not span_name.startswith("join"):
                assert span.span_id == own_id(what)
            above = b"" if producer is None else producer.to_bytes(8, "big")
            assert span.parent_span_id == (above if parent is None else own_id(parent)), span_name
            assert span.start_time_unix_nano <= span.end_time_unix_nano
            linked = {link.span_id for link in span.links}
            if span_name == "process decision":
                assert {own_id("terminals"), own_id("risk-linear"), own_id("risk-forest")} <= linked
        assert contexts[offset] == TraceParent(
            context.trace_id, int.from_bytes(own_id("weigh"), "big"), 1
        )
        about = attributes_of(spans["process risk-forest"])
        assert about["messaging.system"] == "kafka"
        assert about["messaging.destination.name"] == f"{name}.features"
        assert about["messaging.consumer.group.name"] == f"{name}.risk-forest"
        assert about["messaging.kafka.offset"] == offset
        decision = json.loads(decisions[offset].value)
        assert about["anabranch.signal"] == decision["contributions"]["risk-forest"]["signal"]
        end = attributes_of(spans["process weigh"])
        said = (end["anabranch.decision"], end["anabranch.score"], end["anabranch.degraded"])
        assert said == (decision["decision"], decision["score"], decision["degraded"])

    of_features = [span for span in receiver.spans if span.name == "process features"]
    batches = [
        span for span in of_features if "messaging.batch.message_count" in attributes_of(span)
    ]
    of_events = {span.span_id for span in receiver.spans if span not in batches}
    assert {link.span_id for batch in batches for link in batch.links} <= of_events
    assert sum(len(batch.links) for batch in batches) == 2
    sends = [span for span in receiver.spans if span.name == f"send {name}.features"]
    assert {span.parent_span_id for span in sends} == {span.span_id for span in batches}
    assert {span.trace_id for span in sends} == {span.trace_id for span in batches}


async def test_an_endpoint_that_is_down_only_counts(
    trained: Trained, tmp_path: Path, broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, metrics = renamed(trained, tmp_path), Metrics()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    decisions = await run(own, broker, metrics)
    assert len(decisions) == 3
    counted = dropped(metrics, own.pipeline.name)
    assert counted["export"] + counted["queue"] > 3 * len(PARENTS)


def test_nothing_of_opentelemetry_is_loaded_without_an_endpoint() -> None:
    code = (
        "import sys, agents.process.runner, agents.spans as spans\n"
        "from topics.pipeline import find_pipeline, load_pipeline\n"
        "pipeline = load_pipeline(find_pipeline('card-fraud')).pipeline\n"
        "assert spans.opened_recorder(pipeline, print, {}) is spans.NO_SPANS\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
