"""Components that one worker runs: what they write is what they would write apart."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from agents.broker.pipeline_topics import ensure_shadow_topic, ensure_topics
from agents.commands import labelled_events
from agents.components.catalogue import open_component
from agents.control.control_topic import ControlTopic
from agents.process.runner import run_workers
from agents.service.open_pipeline import open_pipeline
from agents.service.promotion import Promoter
from agents.workers.metrics import Metrics
from models.onnx.model_component import ModelComponent
from models.registry.registry import Registry
from models.training.train import train
from tests.integration.harness import (
    EVERYTHING,
    PATIENCE_S,
    RESTART_EVENTS,
    Trained,
    decided,
    decisions_of,
    flowing,
    outputs_of,
    pipeline_running,
    publish,
    records_of,
    renamed,
    restarted_in_mid_stream,
    settled,
    simulated,
    worker_process,
)
from tests.integration.test_cli import anabranch
from topics.pipeline.file import load_pipeline
from topics.pipeline.readers import inputs_of
from topics.pipeline.topology import Topology
from topics.records.wire import decode
from topics.settings import BrokerSettings
from topics.transport.faust_transport import BatchProducer

RISKS = ["risk-linear", "risk-forest", "decision"]
WORKER = "-".join(RISKS)
STATELESS = Path(__file__).parents[1] / "unit" / "stateless.yaml"
EVENTS = 2000


def fused(trained: Trained, home: Path, names: Sequence[str]) -> Trained:
    """The pipeline by another name, with *names* fused."""
    own = renamed(trained, home)
    content = yaml.safe_load(own.file.path.read_text())
    own.file.path.write_text(yaml.safe_dump({**content, "fuse": list(names)}, sort_keys=False))
    return Trained(own.home, load_pipeline(own.file.path), own.registry)


@pytest.fixture
def own(trained: Trained, tmp_path: Path) -> Trained:
    """The card-fraud pipeline with its risks and its decision fused."""
    return fused(trained, tmp_path, RISKS)


@pytest.fixture(scope="module")
def stateless(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A pipeline whose components could all be fused."""
    home = tmp_path_factory.mktemp("stateless")
    content = yaml.safe_load(STATELESS.read_text())
    path = home / "stateless.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    file, registry = load_pipeline(path), Registry(home / "registry")
    data = labelled_events.simulated(file.pipeline, rows=20_000, seed=0)
    train(file.pipeline, home, data, registry, open_component=open_component)
    return Trained(home, file, registry)


def second(own: Trained, of: Trained, name: str) -> None:
    """Register another version of a component, which says other things."""
    train(
        own.pipeline, own.home, labelled_events.simulated(of.pipeline, rows=20_000, seed=5),
        own.registry, open_component=open_component, seed=9, only=[name],
    )  # fmt: skip


def is_in_one_session(metrics: Metrics, own: Trained, worker: str) -> bool:
    labels = {"pipeline": own.pipeline.name, "component": worker}
    return metrics.registry.get_sample_value("anabranch_fused_session", labels) == 1


async def models_of(
    broker: BrokerSettings, own: Trained, name: str
) -> dict[tuple[int, int], tuple[str, float]]:
    """The model and the signal of each row of a stage topic; every row is there once, in order."""
    found: dict[tuple[int, int], tuple[str, float]] = {}
    last: Counter[tuple[int, int | None]] = Counter()
    for record in await records_of(broker, Topology.of(own.pipeline).stage(name)):
        batch = decode(record.value, dict(record.headers))
        theirs = batch.challenged if batch.challenged is not None else np.zeros(len(batch), bool)
        for offset, value, them in zip(
            batch.rows.offsets.tolist(), batch.signal.tolist(), theirs.tolist(), strict=True
        ):
            assert offset >= last[batch.partition, batch.lane], "twice, or out of order"
            last[batch.partition, batch.lane] = offset + 1
            model = batch.challenger if them and batch.challenger else batch.model
            found[batch.partition, offset] = (model.model, value)
    return found


async def check_decisions_follow(broker: BrokerSettings, own: Trained, events: int) -> None:
    """Each output of `decision` is what its model makes of what stands on the other topics."""
    inputs = await outputs_of(broker, own, inputs_of(own.pipeline, ["decision"]))
    said = await models_of(broker, own, "decision")
    assert len(said) == events
    opened = open_component(own.pipeline, "decision", own.registry, own.home).component
    assert isinstance(opened, ModelComponent)
    x = np.array([inputs[at] for at in said], np.float32)
    assert (opened.session.signal(x) == [value for _, value in said.values()]).all()


@pytest.mark.parametrize("shape", ["risks", "features and risk", "everything"])
async def test_fused_components_write_the_bits_that_they_write_apart(
    trained: Trained, stateless: Trained, tmp_path: Path, broker: BrokerSettings, shape: str
) -> None:
    names = {"risks": RISKS, "features and risk": ["features", "risk-forest"],
             "everything": ["features", *RISKS]}[shape]  # fmt: skip
    of = trained if shape == "risks" else stateless
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    apart, together = renamed(of, tmp_path / "one"), fused(of, tmp_path / "other", names)
    metrics = Metrics()
    events = simulated(of.pipeline, EVENTS)
    events[7:9] = [(events[7][0], b"{"), (events[8][0], b"{}")]  # two that cannot be read
    found: list[dict[str, Any]] = []
    for each in (apart, together):
        async with pipeline_running(each, broker, metrics) as workers:
            assert ("-".join(names) in workers.apps) == (each is together)
            await publish(broker, each.pipeline, events, 4000)
            audit = await settled(broker, each.pipeline, EVENTS)
        assert (audit.total.lost, audit.total.duplicated, audit.total.dead) == (0, 0, 2)
        parts = [spec.name for spec in each.pipeline.components]
        signals = {name: await models_of(broker, each, name) for name in parts}
        # How many zeros stand for a row without an output depends on its micro-batch.
        outputs = {
            name: {
                at: row for at, row in (await outputs_of(broker, each, [name])).items() if any(row)
            }
            for name in parts
        }
        found.append({"signals": signals, "outputs": outputs})
    assert found[0] == found[1]
    assert is_in_one_session(metrics, together, "-".join(names))
    labels = {"pipeline": together.pipeline.name, "outcome": "output"}
    for name in names:
        written = metrics.registry.get_sample_value(
            "anabranch_rows_total", {**labels, "component": name}
        )
        assert written == EVENTS - 2


async def test_a_version_of_one_of_them_takes_over_while_events_flow(
    own: Trained, trained: Trained, broker: BrokerSettings
) -> None:
    second(own, trained, "risk-forest")
    metrics, events = Metrics(), simulated(own.pipeline, 2 * EVENTS)
    topology = Topology.of(own.pipeline)
    await ensure_topics(broker, topology)
    await ensure_shadow_topic(broker, topology, "risk-forest")
    async with ControlTopic(broker, topology) as control:
        ours = Promoter(control, own.file, own.registry)
        await ours.promote("risk-forest", 1)
        async with pipeline_running(own, broker, metrics):
            async with flowing(broker, own.pipeline, seed=11) as flow:
                await publish(broker, own.pipeline, events[:EVENTS], 4000)
                await decided(broker, own.pipeline, EVENTS)
                before = dict(control.reports.workers)
                await ours.challenge("risk-forest", 2, share=0.3)
                assert await ours.reports("risk-forest", 2, before, wait_s=PATIENCE_S)
                await flow.goes_on()
                before = dict(control.reports.workers)
                await ours.promote("risk-forest", 2)
                assert await ours.reports("risk-forest", 2, before, wait_s=PATIENCE_S)
                await flow.goes_on()
                await publish(broker, own.pipeline, events[EVENTS:], 4000)
            total = 2 * EVENTS + flow.published
            audit = await settled(broker, own.pipeline, total)
            assert is_in_one_session(metrics, own, WORKER)
    assert (audit.total.lost, audit.total.duplicated, audit.total.decided) == (0, 0, total)
    await check_decisions_follow(broker, own, total)
    models = await models_of(broker, own, "risk-forest")
    share = Counter(model for model, _ in models.values())
    assert share["risk-forest@1"] > EVENTS / 2
    assert share["risk-forest@2"] > EVENTS / 2
    decisions = await decisions_of(broker, own.pipeline)
    for decision in decisions:
        source: Any = decision["source"]
        contributions: Any = decision["contributions"]
        model, _ = models[source["partition"], source["offset"]]
        assert contributions["risk-forest"]["model"] == model


async def test_after_a_crash_between_two_of_their_writes_what_was_written_stands(
    own: Trained, trained: Trained, broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    topology = Topology.of(own.pipeline)
    await ensure_topics(broker, topology)
    write, events = BatchProducer.write, simulated(own.pipeline, EVENTS)

    async def failing(self: BatchProducer, topic: str, *rest: Any) -> None:
        if topic == topology.stage("risk-forest"):
            raise OSError("the machine is gone")
        await write(self, topic, *rest)

    failed: list[tuple[str, BaseException]] = []

    async def until_it_fails() -> None:
        async with pipeline_running(own, broker) as workers:
            await publish(broker, own.pipeline, events[: EVENTS // 2], 4000)
            await decided(broker, own.pipeline, EVENTS // 2)
            monkeypatch.setattr(BatchProducer, "write", failing)
            await publish(broker, own.pipeline, events[EVENTS // 2 :], 4000)
            failed.append(await workers.failed())

    with pytest.raises(AssertionError):  # which says that a worker has failed
        await until_it_fails()
    ((name, cause),) = failed
    assert (name, str(cause)) == (WORKER, "the machine is gone")
    monkeypatch.undo()
    stood = await models_of(broker, own, "risk-linear")
    behind = await models_of(broker, own, "risk-forest")
    assert len(stood) > len(behind) == EVENTS // 2

    second(own, trained, "risk-linear")  # whoever starts now would say other things of these rows
    async with pipeline_running(own, broker):
        audit = await settled(broker, own.pipeline, EVENTS)
    assert (audit.total.lost, audit.total.duplicated, audit.total.decided) == (0, 0, EVENTS)
    now = await models_of(broker, own, "risk-linear")
    assert stood.items() <= now.items()
    assert Counter(model for model, _ in now.values())["risk-linear@2"] == EVENTS - len(stood)
    await check_decisions_follow(broker, own, EVENTS)


async def test_a_killed_worker_of_several_loses_and_repeats_nothing(
    own: Trained, broker: BrokerSettings
) -> None:
    await restarted_in_mid_stream(own, broker, RISKS, signal.SIGKILL)
    for name in RISKS:
        assert len(await models_of(broker, own, name)) == RESTART_EVENTS


async def test_from_apart_to_fused_and_back_nothing_is_lost_or_made_twice(
    own: Trained, broker: BrokerSettings
) -> None:
    content = yaml.safe_load(own.file.path.read_text())
    apart = own.home / "apart.yaml"
    apart.write_text(yaml.safe_dump({**content, "fuse": []}, sort_keys=False))
    before = Trained(own.home, load_pipeline(apart), own.registry)
    events = simulated(own.pipeline, 3 * EVENTS)
    # Apart, the decision maker does not run: it falls behind the others.
    only = [name for name in EVERYTHING if name not in ("decision", "weigh")]
    await ensure_topics(broker, Topology.of(own.pipeline))
    async with run_workers(open_pipeline(before.file, before.registry, only), broker, Metrics()):
        await publish(broker, own.pipeline, events[:EVENTS], 4000)
        async with asyncio.timeout(PATIENCE_S):
            while len(await models_of(broker, own, "risk-forest")) < EVENTS:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    for turn, each in enumerate((own, before), start=2):
        async with pipeline_running(each, broker):
            part = events[EVENTS * (turn - 1) : EVENTS * turn]
            await publish(broker, own.pipeline, part, 4000)
            audit = await settled(broker, own.pipeline, EVENTS * turn)
        assert (audit.total.lost, audit.total.duplicated) == (0, 0)
        assert audit.total.decided == EVENTS * turn
    await check_decisions_follow(broker, own, 3 * EVENTS)
    for name in RISKS:
        assert len(await models_of(broker, own, name)) == 3 * EVENTS


async def test_a_redriven_event_goes_through_each_of_them(
    own: Trained, broker: BrokerSettings
) -> None:
    events = simulated(own.pipeline, 200)
    events[50] = (events[50][0], events[50][1].replace(b'"amount":', b'"amount":-'))
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, events, 4000)
        audit = await settled(broker, own.pipeline, len(events))
        assert audit.total.dead == 1
        done = await asyncio.to_thread(
            anabranch, own, "dead-letters", "redrive", str(own.file.path), "--edit",
            ".amount |= -.", "--json", broker=broker.broker,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        audit = await settled(broker, own.pipeline, len(events))
    assert (audit.total.decided, audit.total.dead, audit.total.redriven) == (200, 0, 1)


async def test_a_worker_is_asked_for_by_its_name_or_that_of_one_of_its_components(
    own: Trained, broker: BrokerSettings
) -> None:
    events = simulated(own.pipeline, 300)
    await ensure_topics(broker, Topology.of(own.pipeline))
    with (
        worker_process(own, broker, "features", "terminals"),
        worker_process(own, broker, "risk-forest"),
        worker_process(own, broker, "weigh"),
    ):
        await publish(broker, own.pipeline, events, 1000)
        audit = await settled(broker, own.pipeline, len(events))
    assert audit.total.decided == len(events)
    found = open_pipeline(own.file, own.registry, [WORKER])
    assert list(found.components) == RISKS
    assert found.workers() == {WORKER: tuple(RISKS)}
