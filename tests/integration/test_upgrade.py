"""What an earlier version has written is read, and continued where it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from agents.broker.pipeline_topics import ensure_topics
from models.onnx.version_check import verify_versions
from models.simulators import LabelledEvent
from tests.integration.harness import decisions_of, records_of, settled, worker_process
from tests.integration.skew import trained_outputs
from tests.integration.test_windows import publish_with_outcomes
from tests.upgrade import earlier
from topics.events.rfc3339 import epoch_ms
from topics.pipeline.topology import Topology
from topics.records.control import ControlState
from topics.records.decision import Decision
from topics.records.heartbeat import heartbeat_of
from topics.records.reports import ReportState
from topics.records.wire import decode
from topics.settings import BrokerSettings

DELAY_MS = 7 * 86_400_000
"""Outcomes are known so long after their events."""


def test_every_record_is_read(tmp_path: Path) -> None:
    pipeline = earlier.home(tmp_path).pipeline
    topology = Topology.of(pipeline)
    control, reports, rows = ControlState(), ReportState(), Counter[str]()
    batches = {
        *map(topology.stage, topology.components),
        *map(topology.keyed, topology.repartitioned),
        topology.shadow("risk-linear"),
    }
    for record in earlier.written():
        headers = dict(record.headers)
        if record.topic in batches:
            if heartbeat_of(record.value, headers) is None:
                rows[record.topic] += len(decode(record.value, headers).rows)
            else:
                rows["heartbeats"] += 1
        elif record.topic == topology.decisions:
            assert Decision.model_validate_json(record.value or b"").score is not None
            rows[record.topic] += 1
        elif record.topic == topology.control:
            control.apply(record.key, record.value)
        elif record.topic == topology.reports:
            reports.apply(record.topic, record.key, record.value, record.timestamp)
    all_events = earlier.EVENTS + earlier.INVALID
    stages = [topology.stage(name) for name in topology.components if name != "terminals"]
    assert {topic: rows[topic] for topic in stages} == dict.fromkeys(stages, all_events)
    assert rows[topology.stage("terminals")] >= all_events, "some are written again after a restart"
    assert rows[topology.decisions] == earlier.EVENTS
    assert rows["heartbeats"]
    deployment = control.deployment("risk-linear")
    assert deployment.champion is not None
    assert deployment.champion.version == 2
    assert deployment.challenger is not None
    assert (deployment.challenger.version, deployment.challenger.share) == (1, 0.3)
    assert [entry.action for entry in control.audit] == ["promote", "canary"]


def test_versions_of_the_registry_are_whole(tmp_path: Path) -> None:
    trained = earlier.home(tmp_path)
    versions = list(verify_versions(trained.registry, trained.pipeline.name, run=True))
    assert len(versions) == 7, "models of four components, one of them twice, and weights twice"
    assert [version.wrong for version in versions] == [None] * 7


async def test_a_pipeline_goes_on_where_the_version_before_has_ended(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    trained = earlier.home(tmp_path)
    topology, more = Topology.of(trained.pipeline), 300
    labelled = earlier.events(earlier.EVENTS + more)
    await ensure_topics(broker, topology)
    await earlier.restore(broker)
    with worker_process(trained, broker):
        await publish_with_outcomes(
            broker, trained.pipeline, without_known(labelled), 500, start=earlier.EVENTS
        )
        audit = await settled(broker, trained.pipeline, len(labelled) + earlier.INVALID)
    assert audit.passed
    decisions = await decisions_of(broker, trained.pipeline)
    assert {each["event_id"] for each in decisions} == {
        str(each.event["transaction_id"]) for each in labelled
    }
    assert len(decisions) == len(labelled)
    assert not any(each["degraded"] for each in decisions)
    wanted = trained_outputs(trained, labelled)
    for name in ("features", "terminals"):  # windows reach back to what was written before
        for row, said in (await said_of(broker, topology.stage(name))).items():
            assert said == wanted[name][row][0], f"{name} of {row}"


def without_known(labelled: Sequence[LabelledEvent]) -> list[tuple[dict[str, object], bool | None]]:
    """Without the outcomes that are on their topic already."""
    last = labelled[earlier.EVENTS - 1].event
    known_ms = epoch_ms(str(last["occurred_at"])) - DELAY_MS
    return [
        (event, None if epoch_ms(str(event["occurred_at"])) <= known_ms else label)
        for event, label in labelled
    ]


async def said_of(broker: BrokerSettings, topic: str) -> dict[str, bytes]:
    """Event id → output, of the rows that have one."""
    outputs: dict[str, bytes] = {}
    for record in await records_of(broker, topic):
        batch = decode(record.value, dict(record.headers))
        rows = zip(batch.rows.ids.items(), batch.output, batch.present, strict=True)
        outputs |= {row.decode(): output.tobytes() for row, output, present in rows if present}
    return outputs
