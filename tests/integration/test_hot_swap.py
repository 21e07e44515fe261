"""Versions that go into service, or run beside the champion, while events flow."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.broker.pipeline_topics import ensure_shadow_topic, ensure_topics
from agents.commands import labelled_events
from agents.components.catalogue import open_component
from agents.components.challenger import in_share
from agents.control.control_topic import ControlTopic
from agents.control.errors import IsChampion, NothingToRollBack
from agents.publish.publisher import producer, publish_chunk
from agents.service.challenger_comparison import Comparer
from agents.service.challenger_follower import follow_challenger
from agents.service.gc_protection import protected_by
from agents.service.promotion import Promoter, Reports
from agents.workers.metrics import Metrics
from models.onnx.model_component import ModelComponent
from models.registry.registry import WEIGHTS
from models.training.train import TrainingData, train
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    decided,
    decisions_of,
    outputs_of,
    pipeline_running,
    publish,
    publish_raw,
    records_of,
    renamed,
    settled,
    simulated,
)
from tests.integration.test_cli import anabranch
from topics.kafka.batches import Record
from topics.pipeline.policy import Policy
from topics.pipeline.topology import Topology
from topics.records.bytes_column import BytesColumn
from topics.records.control import Deployment, VersionRef, WeightsDeployment, deploy_key
from topics.records.outcome import outcome_fields, outcome_of
from topics.records.reports import WorkerReport
from topics.records.wire import decode
from topics.settings import BrokerSettings

EVENTS = 4000
HALF = EVENTS // 2
RATE = 2000.0
FOREST = "risk-forest"

Change = Callable[[Promoter, ControlTopic], Any]


@pytest.fixture
def two(trained: Trained, tmp_path: Path) -> Trained:
    """The pipeline with a second version of its forest, which says other things."""
    own = renamed(trained, tmp_path)
    second_forest(own, labelled_events.simulated(trained.pipeline, rows=20_000, seed=5))
    return own


@pytest.fixture
def opposed(trained: Trained, tmp_path: Path) -> Trained:
    """The pipeline with a second version of its forest, which says the opposite."""
    own = renamed(trained, tmp_path)
    rows = labelled_events.simulated(trained.pipeline, rows=20_000, seed=5)
    second_forest(own, replace(rows, labels=~rows.labels))
    return own


def second_forest(own: Trained, rows: TrainingData) -> None:
    train(
        own.pipeline, own.home, rows, own.registry,
        open_component=open_component, seed=9, only=[FOREST],
    )  # fmt: skip
    assert own.registry.versions(own.pipeline.name, FOREST) == [1, 2]


@asynccontextmanager
async def promoter(own: Trained, broker: BrokerSettings) -> AsyncIterator[Promoter]:
    async with ControlTopic(broker, Topology.of(own.pipeline)) as control:
        yield Promoter(control, own.file, own.registry)


async def deployed(own: Trained, broker: BrokerSettings, version: int) -> None:
    """Say that a version of the forest is in service."""
    await ensure_topics(broker, Topology.of(own.pipeline))
    async with promoter(own, broker) as ours:
        await ours.promote(FOREST, version)


async def streamed(
    own: Trained, broker: BrokerSettings, change: Change, metrics: Metrics | None = None
) -> list[dict[str, Any]]:
    """Decisions of a stream in the middle of which *change* is made; none lost, none twice."""
    events = simulated(own.pipeline, EVENTS)
    async with pipeline_running(own, broker, metrics):
        published = asyncio.create_task(publish(broker, own.pipeline, events[:HALF], RATE))
        await decided(broker, own.pipeline, EVENTS // 4)
        async with ControlTopic(broker, Topology.of(own.pipeline)) as control:
            await change(Promoter(control, own.file, own.registry), control)
        await published
        await publish(broker, own.pipeline, events[HALF:], RATE)
        audit = await settled(broker, own.pipeline, EVENTS)
    assert (audit.total.lost, audit.total.duplicated, audit.total.decided) == (0, 0, EVENTS)
    found = await decisions_of(broker, own.pipeline)
    assert not any(decision["degraded"] for decision in found)
    return found


def by_partition(
    decisions: Sequence[dict[str, Any]], said: Callable[[dict[str, Any]], Any]
) -> dict[int, list[tuple[int, Any]]]:
    """(source offset, what *said* finds) by partition, in order."""
    found: dict[int, list[tuple[int, Any]]] = defaultdict(list)
    for decision in decisions:
        source = decision["source"]
        found[source["partition"]].append((source["offset"], said(decision)))
    return {partition: sorted(rows) for partition, rows in found.items()}


def forest_of(decision: dict[str, Any]) -> str:
    return str(decision["contributions"][FOREST]["model"])


async def said_by_workers(ours: Promoter, what: str, version: int, before: Reports) -> str:
    reports = await ours.reports(what, version, before, wait_s=PATIENCE_S)
    (report,) = reports.values()
    return f"{report.state} {report.reason}".strip()


async def test_a_promoted_version_takes_over_once_at_the_offset_that_is_noted(
    two: Trained, broker: BrokerSettings
) -> None:
    await deployed(two, broker, 1)

    async def change(ours: Promoter, _: ControlTopic) -> None:
        before = dict(ours._control.reports.workers)
        await ours.promote(FOREST, 2, "a test")
        assert await said_by_workers(ours, FOREST, 2, before) == "running"

    metrics = Metrics()
    decisions = await streamed(two, broker, change, metrics)
    async with ControlTopic(broker, Topology.of(two.pipeline)) as control:
        state, noted = control.state, control.reports.firsts
    of_first = sum(forest_of(decision) == f"{FOREST}@1" for decision in decisions)
    labels = {"pipeline": two.pipeline.name, "component": FOREST}
    counted = metrics.registry.get_sample_value("anabranch_rows_of_other_models_total", labels)
    assert counted == of_first > 0, "the weights were learned for the second version"
    seen = by_partition(decisions, forest_of)
    assert {rows[-1][1] for rows in seen.values()} == {f"{FOREST}@2"}
    for partition, rows in seen.items():
        models = [model for _, model in rows]
        assert models == sorted(models), "once a version is replaced it never comes back"
        firsts = [offset for offset, model in rows if model.endswith("@2")]
        assert noted[FOREST, 2, partition].offset == firsts[0]
    assert [(each.action, each.version, each.before) for each in state.audit] == [
        ("promote", 1, None), ("promote", 2, 1),
    ]  # fmt: skip
    deployment = state.deployment(FOREST)
    assert deployment.champion
    assert deployment.previous
    assert (deployment.champion.version, deployment.previous.version) == (2, 1)


async def test_a_version_that_is_the_same_model_is_said_to_be_so(
    two: Trained, broker: BrokerSettings
) -> None:
    first = two.registry.get(two.pipeline.name, FOREST, 1)
    again = two.registry.add(
        two.pipeline.name, FOREST, first.read(), first.card, first.probe()
    ).version  # fmt: skip
    await deployed(two, broker, 1)
    target = f"{two.file.path}/{FOREST}"

    async def promoted(version: int, *words: str) -> str:
        done = await asyncio.to_thread(
            anabranch, two, "models", "promote", f"{target}@{version}", "--wait", "0", *words,
            broker=broker.broker,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "the same model as @1, to the byte" in await promoted(again)
    assert "the same model" not in await promoted(again), "it is itself"
    assert json.loads(await promoted(2, "--json"))["same_model_as"] is None
    await promoted(1)
    assert json.loads(await promoted(again, "--json"))["same_model_as"] == 1


async def test_a_rollback_brings_the_version_before_back(
    two: Trained, broker: BrokerSettings
) -> None:
    await deployed(two, broker, 1)
    async with promoter(two, broker) as ours:
        with pytest.raises(NothingToRollBack):
            await ours.rollback(FOREST)

    async def change(ours: Promoter, _: ControlTopic) -> None:
        await ours.promote(FOREST, 2)
        before = dict(ours._control.reports.workers)
        assert (await ours.rollback(FOREST, "it was worse")).version == 1
        assert await said_by_workers(ours, FOREST, 1, before) == "running"

    decisions = await streamed(two, broker, change)
    seen = by_partition(decisions, forest_of)
    assert {rows[-1][1] for rows in seen.values()} == {f"{FOREST}@1"}
    async with ControlTopic(broker, Topology.of(two.pipeline)) as control:
        firsts = control.reports.firsts
    for partition, rows in seen.items():
        back = [at for (at, model), (_, before) in zip(rows[1:], rows, strict=False)
                if model.endswith("@1") and before.endswith("@2")]  # fmt: skip
        if back:
            assert firsts[FOREST, 1, partition].offset == back[-1]


async def test_a_version_that_was_tampered_with_is_refused_and_the_old_one_goes_on(
    two: Trained, broker: BrokerSettings
) -> None:
    await deployed(two, broker, 1)
    metrics = Metrics()
    good = two.registry.get(two.pipeline.name, FOREST, 2)

    async def change(ours: Promoter, control: ControlTopic) -> None:
        for path in (two.home / "registry").rglob("*.onnx"):
            if path.read_bytes() == good.read():
                path.write_bytes(path.read_bytes()[:-1] + b"\0")
                break
        with pytest.raises(Exception, match="changed"):
            await ours.promote(FOREST, 2)
        before = dict(ours._control.reports.workers)
        wanted = VersionRef(version=2, digest=good.digest)
        await control.write({deploy_key(FOREST): Deployment(champion=wanted)})
        assert (await said_by_workers(ours, FOREST, 2, before)).startswith("refused")

    decisions = await streamed(two, broker, change, metrics)
    assert {forest_of(decision) for decision in decisions} == {f"{FOREST}@1"}
    labels = {"pipeline": two.pipeline.name, "component": FOREST, "result": "refused"}
    assert metrics.registry.get_sample_value("anabranch_swaps_total", labels) == 1


async def test_weights_and_policy_swap_the_same_way(two: Trained, broker: BrokerSettings) -> None:
    name = two.pipeline.name
    first = two.registry.weights(name, 1)
    values = dict.fromkeys(first.card.values, 1 / len(first.card.values))
    second = two.registry.add_weights(name, first.card.model_copy(update={"values": values}))
    policy = Policy(version=7, otherwise="fine", thresholds={"stop": 0.0001})

    async def change(ours: Promoter, _: ControlTopic) -> None:
        before = dict(ours._control.reports.workers)
        await ours.promote_weights(second.version)
        assert await said_by_workers(ours, "weights", second.version, before) == "running"
        ours._pipeline = two.pipeline.model_copy(update={"policy": policy})
        await ours.promote_policy()
        assert await said_by_workers(ours, "policy", 7, before) == "running"

    await ensure_topics(broker, Topology.of(two.pipeline))
    async with promoter(two, broker) as ours:
        await ours.promote_weights(first.version)
    decisions = await streamed(two, broker, change)
    for rows in by_partition(decisions, lambda each: (each["weights"], each["policy"])).values():
        terms = [said for _, said in rows]
        assert terms == sorted(terms)
        assert terms[-1] == (second.version, f"{name}@7")
    for decision in decisions:
        weights = {each["weight"] for each in decision["contributions"].values()}
        assert (len(weights) == 1) == (decision["weights"] == second.version)
        assert decision["decision"] in ({"stop", "fine"} if decision["policy"].endswith("@7")
                                        else {"approve", "review", "decline"})  # fmt: skip


async def test_a_shadow_decides_nothing_and_says_what_it_would_on_a_topic_of_its_own(
    two: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(two.pipeline)
    metrics = Metrics()
    await deployed(two, broker, 1)
    await ensure_shadow_topic(broker, topology, FOREST)

    async def change(ours: Promoter, _: ControlTopic) -> None:
        before = dict(ours._control.reports.workers)
        await ours.challenge(FOREST, 2)
        assert await said_by_workers(ours, FOREST, 2, before) == "running"

    decisions = await streamed(two, broker, change, metrics)
    assert {forest_of(decision) for decision in decisions} == {f"{FOREST}@1"}
    records = await records_of(broker, topology.shadow(FOREST))
    batches = [decode(record.value, dict(record.headers)) for record in records]
    assert sum(map(len, batches)) > EVENTS / 4
    session = open_component(
        two.pipeline.with_version(FOREST, 2), FOREST, two.registry, two.home
    ).component
    assert isinstance(session, ModelComponent)
    inputs = await outputs_of(broker, two, ["features", "terminals"])
    for batch in batches:
        assert batch.challenger is not None
        assert batch.challenged is not None
        assert batch.challenged.all()
        assert batch.challenger.model == f"{FOREST}@2"
        x = np.array([inputs[batch.partition, at] for at in batch.rows.offsets.tolist()])
        assert (session.session.signal(x.astype(np.float32)) == batch.signal).all()
    compared = sum(
        metrics.registry.get_sample_value(
            "anabranch_shadow_rows_total",
            {"pipeline": two.pipeline.name, "component": FOREST, "version": f"{FOREST}@2",
             "agreement": agreement},
        ) or 0
        for agreement in ("same", "flip")
    )  # fmt: skip
    assert compared == sum(map(len, batches))
    comparer = Comparer(FOREST, f"{FOREST}@1", f"{FOREST}@2", two.pipeline.policy)
    async with follow_challenger(broker, two.pipeline, comparer) as follower:
        await follower.catch_up()
    comparison = comparer.comparison()
    assert (comparison.rows, comparison.canary_rows, comparison.failures) == (compared, 0, 0)
    assert comparison.mean_difference > 0


async def test_a_challenger_that_outcomes_prove_better_is_promoted_by_compare(
    opposed: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(opposed.pipeline)
    await deployed(opposed, broker, 1)
    await ensure_shadow_topic(broker, topology, FOREST)
    async with promoter(opposed, broker) as ours:
        await ours.challenge(FOREST, 2)
    events = simulated(opposed.pipeline, EVENTS)
    async with pipeline_running(opposed, broker):
        await publish(broker, opposed.pipeline, events, RATE)
        await settled(broker, opposed.pipeline, EVENTS)
    await publish_outcomes(opposed, broker, events)
    target = f"{opposed.file.path}/{FOREST}"
    words = ("models", "compare", target, "--decide", "--json")
    done = await asyncio.to_thread(anabranch, opposed, *words, broker=broker.broker)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert (content["rows"], content["labelled"], content["verdict"]) == (EVENTS, EVENTS, "better")
    assert content["quality"]["challenger"]["brier"] < content["quality"]["champion"]["brier"]
    async with ControlTopic(broker, topology) as control:
        deployment, audit = control.state.deployment(FOREST), control.state.audit
    assert deployment.champion
    assert (deployment.champion.version, deployment.challenger) == (2, None)
    assert "sequential test" in audit[-1].reason
    done = await asyncio.to_thread(anabranch, opposed, *words, broker=broker.broker)
    assert (done.returncode, "has no challenger" in done.stderr) == (1, True)


async def publish_outcomes(
    own: Trained, broker: BrokerSettings, events: Sequence[tuple[bytes, bytes]]
) -> None:
    """Outcomes that the second forest has foreseen better than the first, for all events."""
    topology, fields = Topology.of(own.pipeline), outcome_fields(own.pipeline)
    higher: dict[tuple[int, int], bool] = {}
    said: dict[tuple[int, int], float] = {}
    for record in await records_of(broker, topology.stage(FOREST)):
        batch = decode(record.value, dict(record.headers))
        for offset, signal in zip(batch.rows.offsets.tolist(), batch.signal.tolist(), strict=True):
            said[batch.partition, offset] = signal
    for record in await records_of(broker, topology.shadow(FOREST)):
        batch = decode(record.value, dict(record.headers))
        for offset, signal in zip(batch.rows.offsets.tolist(), batch.signal.tolist(), strict=True):
            higher[batch.partition, offset] = signal > said[batch.partition, offset]
    decisions: list[dict[str, Any]] = await decisions_of(broker, own.pipeline)
    sources = {str(decision["event_id"]): decision["source"] for decision in decisions}
    labels = {name: higher[source["partition"], source["offset"]]
              for name, source in sources.items()}  # fmt: skip
    outcomes = [
        (key, json.dumps(outcome_of(fields, event, label=labels[event[own.pipeline.event.id]])))
        for key, event in ((key, json.loads(value)) for key, value in events)
    ]
    async with producer(broker) as kafka:
        chunk = [(key, value.encode()) for key, value in outcomes]
        await publish_chunk(kafka, topology.outcomes, topology.partitions, chunk)


async def test_a_canary_decides_for_the_same_share_of_keys_all_the_time(
    two: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(two.pipeline)
    await deployed(two, broker, 1)
    await ensure_shadow_topic(broker, topology, FOREST)
    async with promoter(two, broker) as ours:
        await ours.challenge(FOREST, 2, share=0.3)

    async def change(ours: Promoter, _: ControlTopic) -> None:
        await asyncio.sleep(0.5)
        await ours.end_challenge(FOREST)

    await streamed(two, broker, change)
    decisions = await records_of(broker, topology.decisions)
    told = [(record.key, json.loads(record.value)) for record in decisions]
    chosen = in_share(FOREST, BytesColumn.of([key for key, _ in told]), 0.3)
    seen = by_partition([decision for _, decision in told], forest_of)
    last = {
        p: max((o for o, m in rows if m.endswith("@2")), default=-1) for p, rows in seen.items()
    }
    assert max(last.values()) > 0
    for (_, decision), mine in zip(told, chosen.tolist(), strict=True):
        source = decision["source"]
        if source["offset"] <= last[source["partition"]]:
            assert forest_of(decision) == f"{FOREST}@{2 if mine else 1}"
        else:
            assert forest_of(decision) == f"{FOREST}@1"
    comparer = Comparer(FOREST, f"{FOREST}@1", f"{FOREST}@2", two.pipeline.policy)
    async with follow_challenger(broker, two.pipeline, comparer) as follower:
        await follower.catch_up()
    comparison = comparer.comparison()
    assert comparison.canary_rows == sum(1 for _, d in told if forest_of(d).endswith("@2"))
    assert comparison.rows > comparison.canary_rows > 0


async def test_a_worker_that_starts_runs_what_is_in_service_not_the_newest(
    two: Trained, broker: BrokerSettings
) -> None:
    await deployed(two, broker, 1)
    events = simulated(two.pipeline, 200)
    async with pipeline_running(two, broker):
        await publish(broker, two.pipeline, events, 2000)
        await settled(broker, two.pipeline, len(events))
    assert {forest_of(each) for each in await decisions_of(broker, two.pipeline)} == {f"{FOREST}@1"}


async def test_what_others_write_on_the_control_topic_stops_nobody(
    two: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(two.pipeline)
    await ensure_topics(broker, topology)
    nonsense = [(b"deploy/risk-forest", b"{"), (b"\xff", b"x"), (None, b""), (b"audit/1", b"[]"),
                (b"first/risk-forest/x/0", b"{}"), (b"weights", b'{"version": 0}')]  # fmt: skip
    now_ms = int(time.time() * 1000)
    await publish_raw(broker, topology.control, 0, [Record(k, v, now_ms) for k, v in nonsense])
    await deployed(two, broker, 1)
    async with ControlTopic(broker, topology) as control:
        champion = control.state.deployment(FOREST).champion
    assert champion is not None
    assert champion.version == 1


async def test_a_canary_has_the_same_keys_from_the_first_row_after_a_restart(
    two: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(two.pipeline)
    await deployed(two, broker, 1)
    await ensure_shadow_topic(broker, topology, FOREST)
    async with promoter(two, broker) as ours:
        await ours.challenge(FOREST, 2, share=0.5)
    events = simulated(two.pipeline, 600)
    await publish(broker, two.pipeline, events, RATE)  # it is there before a worker is
    for half in (300, 600):
        async with pipeline_running(two, broker):
            await decided(broker, two.pipeline, half)
    records = await records_of(broker, topology.decisions)
    chosen = in_share(FOREST, BytesColumn.of([record.key for record in records]), 0.5)
    for record, mine in zip(records, chosen.tolist(), strict=True):
        assert forest_of(json.loads(record.value)) == f"{FOREST}@{2 if mine else 1}"


async def test_a_challenge_that_ends_by_itself_is_told(
    two: Trained, broker: BrokerSettings
) -> None:
    await deployed(two, broker, 1)
    await ensure_shadow_topic(broker, Topology.of(two.pipeline), FOREST)
    async with promoter(two, broker) as ours, pipeline_running(two, broker) as workers:
        await ours.challenge(FOREST, 2)
        assert await said_by_workers(ours, FOREST, 2, {}) == "running"
        before = dict(ours._control.reports.workers)
        workers.active.components[FOREST].end_challenge("its topic is full")
        said = await said_by_workers(ours, FOREST, 2, before)
        assert said == f"refused {FOREST}@1 runs alone: its topic is full"


async def test_a_promotion_leaves_the_challenge_of_another_version(
    two: Trained, broker: BrokerSettings
) -> None:
    await ensure_shadow_topic(broker, Topology.of(two.pipeline), FOREST)
    await deployed(two, broker, 1)
    async with promoter(two, broker) as ours:
        with pytest.raises(IsChampion):
            await ours.challenge(FOREST, 1)
        await ours.challenge(FOREST, 2)
        await ours.promote(FOREST, 1, "again")
        assert ours.contestants(FOREST) == (1, 2)
        await ours.promote(FOREST, 2, "it has won")
        assert ours._control.state.deployment(FOREST).challenger is None


async def test_weights_that_cannot_be_used_leave_those_of_before_after_a_restart(
    two: Trained, broker: BrokerSettings
) -> None:
    name = two.pipeline.name
    await ensure_topics(broker, Topology.of(two.pipeline))
    first = two.registry.weights(name)
    second = two.registry.add_weights(name, first.card)
    async with promoter(two, broker) as ours:
        await ours.promote_weights(first.version)
        await ours.promote_weights(second.version)
    (two.home / "registry" / name / "@weights" / str(second.version) / "weights.json").unlink()
    async with pipeline_running(two, broker) as workers:
        assert workers.active.decision_rule is not None
        assert workers.active.decision_rule.rule.weights.version == first.version


async def reports_of(own: Trained, broker: BrokerSettings, what: str) -> list[WorkerReport]:
    """What workers say of a component's or the weights' version, once one has."""
    async with ControlTopic(broker, Topology.of(own.pipeline)) as control:
        control.listen()
        while not (
            said := [each for (name, _), each in control.reports.workers.items() if name == what]
        ):
            await control.more()
        return said


async def runs_after_a_start(
    own: Trained, broker: BrokerSettings, metrics: Metrics
) -> tuple[str, str, str]:
    """What runs of the forest after a start, and what its worker says of what should."""
    async with pipeline_running(own, broker, metrics) as workers:
        (report,) = await reports_of(own, broker, FOREST)
        model = workers.active.components[FOREST].champion.model.model
    return model, report.state, report.reason


def refusals(own: Trained, metrics: Metrics, component: str) -> float | None:
    labels = {"pipeline": own.pipeline.name, "component": component, "result": "refused"}
    return metrics.registry.get_sample_value("anabranch_swaps_total", labels)


async def test_versions_that_are_gone_leave_the_newest_that_is_there_and_it_is_said(
    two: Trained, broker: BrokerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    gone = VersionRef(version=7, digest="sha256:" + "7" * 64)
    before = VersionRef(version=6, digest="sha256:" + "6" * 64)
    await ensure_topics(broker, Topology.of(two.pipeline))
    async with ControlTopic(broker, Topology.of(two.pipeline)) as control:
        await control.write({deploy_key(FOREST): Deployment(champion=gone, previous=before)})
    model, state, reason = await runs_after_a_start(two, broker, metrics)
    assert (model, state) == (f"{FOREST}@2", "refused")
    assert reason.startswith(f"{FOREST}@2 runs instead: no model of {FOREST}@7")
    assert refusals(two, metrics, FOREST) == 1
    assert f"{FOREST}@7 is promoted, but cannot be used" in caplog.text
    assert f"{FOREST}@2 (sha256:" in caplog.text


async def test_a_version_with_another_digest_is_not_taken_for_the_promoted_one(
    two: Trained, broker: BrokerSettings
) -> None:
    metrics = Metrics()
    other = VersionRef(version=2, digest="sha256:" + "2" * 64)
    first = two.registry.get(two.pipeline.name, FOREST, 1)
    before = VersionRef(version=1, digest=first.digest)
    await ensure_topics(broker, Topology.of(two.pipeline))
    async with ControlTopic(broker, Topology.of(two.pipeline)) as control:
        await control.write({deploy_key(FOREST): Deployment(champion=other, previous=before)})
    model, state, reason = await runs_after_a_start(two, broker, metrics)
    assert (model, state) == (f"{FOREST}@1", "refused")
    assert "in this registry, but sha256:222" in reason
    async with ControlTopic(broker, Topology.of(two.pipeline)) as control:
        await control.write({deploy_key(FOREST): Deployment(champion=other)})
    model, state, reason = await runs_after_a_start(two, broker, metrics)
    assert (model, state) == (f"{FOREST}@2", "refused"), "the same number, another model"
    assert refusals(two, metrics, FOREST) == 2


async def test_weights_that_do_not_fit_leave_the_newest_that_do(
    two: Trained, broker: BrokerSettings, caplog: pytest.LogCaptureFixture
) -> None:
    name, metrics = two.pipeline.name, Metrics()
    good = two.registry.weights(name)
    values = {**good.card.values, "gone": 0.0}
    others = [
        two.registry.add_weights(name, good.card.model_copy(update={"values": values})).version
        for _ in range(3)
    ]
    deployed_weights = WeightsDeployment(version=others[1], previous=others[0])
    await ensure_topics(broker, Topology.of(two.pipeline))
    async with ControlTopic(broker, Topology.of(two.pipeline)) as control:
        await control.write({"weights": deployed_weights})
    async with pipeline_running(two, broker, metrics) as workers:
        (report,) = await reports_of(two, broker, "weights")
        assert report.state == "refused"
        assert report.reason.startswith(f"weights@{good.version} weigh instead: ")
        assert refusals(two, metrics, "weigh") == 1
        assert workers.active.decision_rule is not None
        assert workers.active.decision_rule.rule.weights.version == good.version
    assert f"weights@{good.version} runs instead" in caplog.text


async def test_reports_of_older_workers_on_the_control_topic_are_still_read(
    two: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(two.pipeline)
    await ensure_topics(broker, topology)
    report = {"version": 1, "state": "refused", "reason": "too old", "at": "2026-01-01"}
    said = [
        (b"worker/risk-forest/old-1", json.dumps(report).encode()),
        (b"first/risk-forest/1/0", b'{"offset": 12, "worker": "old-1", "at": "2026-01-01"}'),
    ]
    now_ms = int(time.time() * 1000)
    await publish_raw(broker, topology.control, 0, [Record(k, v, now_ms) for k, v in said])
    words = ("models", "log", str(two.file.path), "--json")
    done = await asyncio.to_thread(anabranch, two, *words, broker=broker.broker)
    content = json.loads(done.stdout)
    assert [(each["worker"], each["reason"]) for each in content["workers"]] == [
        ("old-1", "too old")
    ]
    assert [(each["version"], each["offset"]) for each in content["firsts"]] == [(1, 12)]


async def test_a_worker_that_ends_in_order_takes_its_reports_back_and_writes_no_control_record(
    two: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(two.pipeline)
    await deployed(two, broker, 1)
    before = len(await records_of(broker, topology.control))
    events = simulated(two.pipeline, 200)
    async with pipeline_running(two, broker):
        await publish(broker, two.pipeline, events, 2000)
        await settled(broker, two.pipeline, len(events))
        async with ControlTopic(broker, topology) as control:
            control.listen()
            while len(control.reports.statuses) < 7 or not control.reports.workers:
                await control.more()
            names = {name for name, _ in control.reports.statuses}
    assert names == {"features", "terminals", "terminals.keyed", "risk-linear", FOREST, "decision",
                     "weigh"}  # fmt: skip
    async with ControlTopic(broker, topology) as control:
        assert (control.reports.statuses, control.reports.workers) == ({}, {})
        assert {name for name, *_ in control.reports.firsts} >= {FOREST, "decision"}
    assert len(await records_of(broker, topology.control)) == before


async def test_gc_leaves_what_is_in_service(
    two: Trained, broker: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(two, broker, 1)
    async with promoter(two, broker) as ours:
        weights = await ours.promote_weights(None)
    monkeypatch.setenv("ANABRANCH_BROKER", broker.broker)
    monkeypatch.setenv("ANABRANCH_EMBEDDED", "true")
    kept = await asyncio.to_thread(protected_by, two.file)
    assert kept == {(FOREST, 1), (WEIGHTS, weights)}
