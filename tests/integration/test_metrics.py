"""The metrics of a pipeline that has just decided events."""

from __future__ import annotations

import asyncio
import time
from itertools import product

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
from topics.pipeline.readers import readers
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
    kinds = {
        (kind, by): value("anabranch_decisions_total", decision=kind, decided_by=by)
        for kind, by in (("approve", "score"), ("review", "score"), ("decline", "score"))
    }
    assert sum(kinds.values()) == 400  # type: ignore[arg-type]  # each of them is there from the start
    assert value("anabranch_decision_score_count") == 400
    assert value("anabranch_decision_score_bucket", le="1.0") == 400
    assert abs(time.time() - (value("anabranch_last_decision_timestamp_seconds") or 0)) < 300
    assert value("anabranch_missing_stages_total", component="decision", reason="down") == 0
    for name in EVERYTHING:
        assert (value("anabranch_rebalances_total", component=name) or 0) >= 1
        assert value("anabranch_partitions_to_own", component=name) == 4
        for topic, partition in product(readers(trained.pipeline)[name].topics, "0123"):
            at = {"component": name, "topic": topic, "partition": partition}
            assert value("anabranch_partition_lag_records", **at) == 0
            assert value("anabranch_oldest_record_seconds", **at) == 0
    assert value("anabranch_unaccounted_events_total") == 0
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
