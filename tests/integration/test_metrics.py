"""The metrics of a pipeline that has just decided events."""

from __future__ import annotations

import asyncio
import time

from agents.workers.metrics import Metrics
from tests.integration.harness import (
    EVERYTHING,
    PATIENCE_S,
    Trained,
    pipeline_running,
    publish,
    publish_raw,
    settled,
    simulated,
)
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings


async def test_metrics_tell_what_happened(trained: Trained, broker: BrokerSettings) -> None:
    metrics = Metrics()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"pipeline": "card-fraud", **labels})

    bad = [Record(b"k", b"nonsense", int(time.time() * 1000)) for _ in range(3)]
    async with pipeline_running(trained, broker, metrics):
        await publish(broker, trained.pipeline, simulated(trained.pipeline, 400), 4000)
        await publish_raw(broker, Topology.of(trained.pipeline).events, 0, bad)
        await settled(broker, trained.pipeline, 403)
        async with asyncio.timeout(PATIENCE_S):  # lag is looked at now and then
            while any(  # noqa: ASYNC110
                value("anabranch_consumer_lag_records", component=name) for name in EVERYTHING
            ):
                await asyncio.sleep(0.1)

    assert value("anabranch_events_total", outcome="decision") == 400
    assert value("anabranch_events_total", outcome="dead-letter") == 3
    assert value("anabranch_dead_letters_total", stage="features", error="InvalidEvent") == 3
    assert value("anabranch_rows_failed_total", component="features", error="InvalidEvent") == 3
    assert value("anabranch_unaccounted_events") == 0
    assert value("anabranch_event_to_decision_seconds_count") == 400
    assert value("anabranch_join_rows") == 0
    for name in ("features", "risk-linear", "risk-forest", "decision"):
        assert value("anabranch_rows_total", component=name, outcome="output") == 400
        assert value("anabranch_rows_total", component=name, outcome="absent") == 3
        assert value("anabranch_consumer_lag_records", component=name) == 0
        assert (value("anabranch_batch_rows_sum", component=name) or 0) >= 403
        assert (value("anabranch_inference_seconds_sum", component=name) or 0) > 0
        assert (value("anabranch_stage_seconds_sum", component=name) or 0) > 0
    weights = [
        value("anabranch_weight", component=name) for name in trained.pipeline.weighting.inputs
    ]
    assert sum(weight for weight in weights if weight is not None) == 1
    card = trained.registry.latest("card-fraud", "risk-forest")
    info = {
        "component": "risk-forest", "model": "risk-forest@1",
        "digest": card.digest, "variant": "fp32",
    }  # fmt: skip
    assert value("anabranch_model_info", **info) == 1
