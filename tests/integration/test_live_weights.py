"""Weights move in service: learned from outcomes, without a stage that errs, and back."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
import yaml

from agents.broker.pipeline_topics import ensure_outcomes_topic
from agents.control.control_topic import ControlTopic
from agents.process.monitor_process import run_monitor
from agents.service.promotion import Promoter
from models.registry.cards import WeightsCard
from models.registry.registry import Registry
from tests.contracts import check_values
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    decisions_of,
    pipeline_running,
    publish,
    publish_raw,
    records_of,
    settled,
    simulated,
)
from tests.integration.test_replay import replayed
from tests.integration.velocity import EVENT
from topics.kafka.batches import Record
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

SMALL_BLOCKS = {"mode": "active", "rows": 50, "restore_blocks": 2}
"""A block of the default, 1,000 decisions, would take minutes here; its rows are no matter of
what comes of it, which `tests/unit/test_weights_watcher.py` holds at the defaults."""


def pipeline_of(
    folder: Path, name: str, components: dict[str, tuple[str, dict[str, object]]],
    **weighting: object,
) -> Trained:  # fmt: skip
    """Own components on events, weighed by weights that are in the registry."""
    content = yaml.safe_load(EVENT) | {
        "pipeline": name,
        "components": [
            {"name": each, "import": f"tests.integration.velocity:{kind}", "from": ["events"],
             "options": options}
            for each, (kind, options) in components.items()
        ],
        "weighting": {"from": [*components], **weighting},
        "policy": {"thresholds": {"review": 0.3, "decline": 0.6}},
    }  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    own = Trained(folder, load_pipeline(path), Registry(folder / "registry"))
    own.registry.add_weights(name, WeightsCard(
        values=dict.fromkeys(components, 1 / len(components)), rows=1, created_at="2026-01-01",
        metrics={}, models={},
    ))  # fmt: skip
    return own


@asynccontextmanager
async def watched(own: Trained, broker: BrokerSettings, folder: Path) -> AsyncIterator[None]:
    """The pipeline runs, and a monitor beside it."""
    topology, stopping = Topology.of(own.pipeline), asyncio.Event()
    async with pipeline_running(own, broker):
        await ensure_outcomes_topic(broker, topology)
        monitor = asyncio.create_task(
            run_monitor(own.file, own.registry, broker, folder, stopping, up=lambda _: None)
        )
        try:
            yield
        finally:
            stopping.set()
            await monitor


class Stream:
    """Events of one pipeline, some at a time."""

    def __init__(self, own: Trained, broker: BrokerSettings) -> None:
        self._own, self._broker = own, broker
        self._events = simulated(own.pipeline, 60_000)
        self.published = 0

    async def some(self, count: int) -> Sequence[bytes]:
        """Publish so many more, and wait until they are decided; their values."""
        part = self._events[self.published : self.published + count]
        await publish(self._broker, self._own.pipeline, part, 2000)
        self.published += count
        audit = await settled(self._broker, self._own.pipeline, self.published)
        assert audit.passed
        return [value for _, value in part]

    async def newest(self) -> dict[str, object]:
        """The decision that was written last."""
        decisions = await decisions_of(self._broker, self._own.pipeline)
        return max(decisions, key=lambda each: str(each["decided_at"]))


async def weights_findings(own: Trained, broker: BrokerSettings) -> list[dict[str, object]]:
    """What the monitor has said of weights."""
    topic = Topology.of(own.pipeline).monitor
    records = await records_of(broker, topic, 1)
    check_values(own.pipeline, "monitor", [record.value for record in records])
    said = [json.loads(record.value) for record in records]
    return [each for each in said if each["kind"] == "weights"]


@pytest.mark.parametrize("how", ["fails", "constant"])
async def test_a_component_that_errs_is_out_of_the_weights_until_it_has_mended(
    tmp_path: Path, broker: BrokerSettings, how: str
) -> None:
    flags = {name: tmp_path / name for name in ("fails", "constant")}
    own = pipeline_of(
        tmp_path, f"fickle-{how}",
        {
            "large": ("LargeAmount", {"limit": 500}),
            "fickle": ("Fickle", {"limit": 300, **{at: str(path) for at, path in flags.items()}}),
        },
        quarantine=SMALL_BLOCKS, learning={"mode": "off"},
    )  # fmt: skip
    async with watched(own, broker, tmp_path / "monitor"):
        stream = Stream(own, broker)
        await stream.some(1200)
        flags[how].touch()
        began, deadline = stream.published, time.monotonic() + PATIENCE_S
        while "quarantined" not in await stream.newest():
            assert time.monotonic() < deadline
            await stream.some(20)
        out = await stream.newest()
        assert out["quarantined"] == ["fickle"]
        assert out["weights"] == 2
        # Two blocks of each partition's rows, and what was decided until it was in service.
        (first,) = [each for each in await weights_findings(own, broker) if each["verdicts"]]
        assert first["verdicts"][0]["reason"] == {"fails": "failed"}.get(how, "constant")  # type: ignore[index]
        assert stream.published - began < 1000

        flags[how].unlink()
        while "quarantined" in await stream.newest():
            assert time.monotonic() < deadline + PATIENCE_S
            await stream.some(20)
        assert (await stream.newest())["weights"] == 1
        report = await replayed(own, broker)
    decisions = await decisions_of(broker, own.pipeline)
    for decision in decisions:
        weight = decision["contributions"].get("fickle", {}).get("weight")  # type: ignore[attr-defined]
        assert weight in ({0.0, None} if decision["weights"] == 2 else {0.5, None})
    assert (report.decisions, report.different, report.lost) == (len(decisions), 0, 0)
    async with ControlTopic(broker, Topology.of(own.pipeline)) as control:
        audit = [(entry.action, entry.version) for entry in control.state.audit]
    assert audit == [("promote", 2), ("promote", 1)]


def outcome(value: bytes, known_at: datetime) -> Record:
    """That large amounts are frauds."""
    event = orjson.loads(value)
    said = {**event, "outcome": event["amount"] > 60, "known_at": known_at.isoformat()}
    return Record(event["customer_id"].encode(), orjson.dumps(said), time.time_ns() // 1_000_000)


async def test_weights_learned_from_outcomes_decide_and_one_command_leads_back(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    """Without `learning:` but `active`: the settings are the defaults."""
    own = pipeline_of(
        tmp_path, "learned",
        {"large": ("LargeAmount", {"limit": 120}), "small": ("SmallAmount", {"limit": 120})},
        learning={"mode": "active"},
    )  # fmt: skip
    topology = Topology.of(own.pipeline)
    async with watched(own, broker, tmp_path / "monitor"):
        stream = Stream(own, broker)
        values = await stream.some(1500)
        now = datetime.now(UTC)
        records: list[list[Record]] = [[] for _ in range(4)]
        places = {
            str(each["event_id"]): each["source"]["partition"]  # type: ignore[index]
            for each in await decisions_of(broker, own.pipeline)
        }
        for at, value in enumerate(values):
            known_at = now - timedelta(hours=30) + timedelta(hours=29 * at / len(values))
            place = places[orjson.loads(value)["transaction_id"]]
            records[place].append(outcome(value, known_at))
        for partition, some in enumerate(records):
            await publish_raw(broker, topology.outcomes, partition, some)
        deadline = time.monotonic() + PATIENCE_S
        while (await stream.newest())["weights"] == 1:
            assert time.monotonic() < deadline
            await stream.some(20)
        learned = await stream.newest()
        weights = {name: part["weight"] for name, part in learned["contributions"].items()}  # type: ignore[attr-defined]
        assert weights["large"] > 0.9
        assert learned["policy"] == "learned@2"
        finding = (await weights_findings(own, broker))[-1]
        assert finding["log_loss"]["learned"] <= finding["log_loss"]["decided"]  # type: ignore[index]
        report = await replayed(own, broker)
        assert (report.decisions, report.different) == (stream.published, 0)

        async with ControlTopic(broker, topology) as control:
            promoter = Promoter(control, own.file, own.registry)
            assert await promoter.rollback_weights("by hand") == 1
        while (await stream.newest())["weights"] != 1:
            assert time.monotonic() < deadline + PATIENCE_S
            await stream.some(20)
        assert (await stream.newest())["policy"] == "learned@1"
        await stream.some(1)
        await asyncio.sleep(15)  # the monitor looks every second, and acts at least every ten
        async with ControlTopic(broker, topology) as control:
            assert control.state.weights is not None
            assert control.state.weights.version == 1
    # Weights and the thresholds that moved with them came together, and went together.
    decisions = await decisions_of(broker, own.pipeline)
    together = {(each["weights"], each["policy"]) for each in decisions}
    assert len(together) == len({weights for weights, _ in together}) > 1
