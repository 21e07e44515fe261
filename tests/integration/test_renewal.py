"""A renewal goes from the topics to a promotion by itself, also when its trainers are killed."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path

from agents.control import ControlTopic
from agents.renewal.renewal_ledger import RenewalLedger
from agents.renewal.renewal_log import RenewalLog
from agents.service.promotion import Promoter
from tests.contracts import check_values
from tests.integration.harness import Trained, pipeline_running, records_of, settled, stopped
from tests.integration.renewal_scene import (
    AFTER,
    BEFORE,
    FOREST,
    control_of,
    ended,
    happens,
    ledger_of,
    renewing,
    trainer_process,
    until,
)
from tests.integration.test_cli import anabranch
from topics.pipeline.topology import Topology
from topics.records import STEPS, RenewalRequest, StepName
from topics.settings import BrokerSettings

WANTED = RenewalRequest(name="now", action="renew", by="a test", at="2026-01-01T00:00:00Z")


def has_begun(name: StepName) -> Callable[[RenewalLedger], bool]:
    """Whether the newest renewal has come to a step, or to its end."""

    def is_so(ledger: RenewalLedger) -> bool:
        newest = ledger.newest
        return newest is not None and (name in newest.steps or newest.verdict is not None)

    return is_so


async def test_a_challenger_is_trained_shadowed_and_promoted_without_a_person(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renewing(trained, tmp_path)
    async with pipeline_running(own, broker):
        await happens(own, broker, 0, BEFORE)
        await settled(broker, own.pipeline, BEFORE)
        with trainer_process(own, broker, "--once", "--reason", "it is wrong") as process:
            async with RenewalLog(broker, Topology.of(own.pipeline)) as renewals:
                await until(renewals, has_begun("compare"), process)
            await happens(own, broker, BEFORE, AFTER)
            assert await ended(process) == 0
        audit = await settled(broker, own.pipeline, BEFORE + AFTER)
    assert (audit.total.lost, audit.total.duplicated) == (0, 0)
    (renewal,) = await ledger_of(own, broker)
    assert renewal.verdict is not None
    assert renewal.verdict.verdict == "promoted"
    assert [*renewal.steps] == [*STEPS]
    assert renewal.begun.trigger == "request"
    assert "it is wrong" in renewal.begun.reason
    built = renewal.done("dataset")
    assert sum(end - start for start, end in built.offsets.values()) >= built.figures["rows"] > 0
    await assert_promoted(own, broker)
    said = await records_of(broker, Topology.of(own.pipeline).renewals, 1)
    assert check_values(own.pipeline, "renewals", [each.value for each in said]) > 2 * len(STEPS)


async def assert_promoted(own: Trained, broker: BrokerSettings) -> None:
    """The second forest is in service, registered and promoted once, and the trail says why."""
    control = await control_of(own, broker)
    assert own.registry.versions(own.pipeline.name, FOREST) == [1, 2]
    assert own.registry.get(own.pipeline.name, FOREST, 2).card.note == "renewal 1"
    deployed = control.deployment(FOREST)
    assert deployed.champion is not None
    assert (deployed.champion.version, deployed.challenger) == (2, None)
    of_forest = [(each.action, each.version) for each in control.audit if each.what == FOREST]
    assert of_forest == [("promote", 1), ("shadow", 2), ("promote", 2)]
    last = control.last_change(FOREST)
    assert last is not None
    assert last.by == "trainer (renewal 1)"
    assert last.reason.startswith("renewal 1: risk-forest@2 is better than risk-forest@1")
    assert last.evidence is not None
    assert last.evidence.decided > 0


async def test_a_renewal_whose_trainers_are_killed_at_every_step_is_done_once(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renewing(trained, tmp_path, on=["schedule"])
    async with pipeline_running(own, broker), RenewalLog(broker, topology_of(own)) as renewals:
        await happens(own, broker, 0, BEFORE)
        await settled(broker, own.pipeline, BEFORE)
        await renewals.append(WANTED)
        for step in STEPS[:-1]:
            with trainer_process(own, broker) as process:
                await until(renewals, has_begun(step), process)
                await asyncio.to_thread(stopped, process, signal.SIGKILL)
        await happens(own, broker, BEFORE, AFTER)
        with trainer_process(own, broker) as process:
            await until(renewals, has_ended, process)
            assert await asyncio.to_thread(stopped, process, signal.SIGTERM) == 0
    ledger = await ledger_of(own, broker)
    (renewal,) = ledger
    assert renewal.verdict is not None
    assert renewal.verdict.verdict == "promoted"
    assert renewal.attempts["compare"] >= 2
    assert ledger.term >= len(STEPS)
    assert ledger.owner is None
    await assert_promoted(own, broker)


def topology_of(own: Trained) -> Topology:
    return Topology.of(own.pipeline)


def has_ended(ledger: RenewalLedger) -> bool:
    newest = ledger.newest
    return newest is not None and newest.verdict is not None


async def test_a_renewal_is_stopped_and_its_challenger_with_it(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renewing(trained, tmp_path)
    async with pipeline_running(own, broker), RenewalLog(broker, topology_of(own)) as renewals:
        await happens(own, broker, 0, BEFORE)
        await settled(broker, own.pipeline, BEFORE)
        with trainer_process(own, broker, "--once") as process:
            await until(renewals, has_begun("compare"), process)
            assert (await control_of(own, broker)).deployment(FOREST).challenger is not None
            with trainer_process(own, broker, "--stop", "--reason", "wrong labels") as stopping:
                assert await ended(stopping) == 0
            assert await ended(process) == 1
    (renewal,) = await ledger_of(own, broker)
    assert renewal.verdict is not None
    assert renewal.verdict.verdict == "stopped"
    assert "wrong labels" in renewal.verdict.reason
    control = await control_of(own, broker)
    assert control.deployment(FOREST).challenger is None
    last = control.last_change(FOREST)
    assert last is not None
    assert (last.action, "wrong labels" in last.reason) == ("end-challenge", True)


async def test_a_second_trainer_stands_by_and_takes_over_at_the_step_that_was_not_done(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renewing(trained, tmp_path, on=["schedule"])
    async with pipeline_running(own, broker), RenewalLog(broker, topology_of(own)) as renewals:
        await happens(own, broker, 0, BEFORE)
        await settled(broker, own.pipeline, BEFORE)
        await renewals.append(WANTED)
        with trainer_process(own, broker) as first, trainer_process(own, broker) as second:
            await until(renewals, has_begun("compare"), first)
            owner = renewals.ledger.owner
            assert owner is not None
            of_owner = f"-{first.pid}-" in owner
            one, other = (first, second) if of_owner else (second, first)
            one.send_signal(signal.SIGSTOP)  # frozen, and it wakes up behind its lease
            await until(renewals, lambda ledger: ledger.owner not in (None, owner), other)
            one.send_signal(signal.SIGCONT)
            await happens(own, broker, BEFORE, AFTER)
            await until(renewals, has_ended, other)
            assert await asyncio.to_thread(stopped, one, signal.SIGTERM) == 0
    (renewal,) = await ledger_of(own, broker)
    assert renewal.attempts["train"] == 1
    await assert_promoted(own, broker)


async def test_a_challenger_that_loses_is_closed_and_said_why(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    """With a gate that nothing passes: the file's own is another, so that others may win."""
    own = renewing(trained, tmp_path, gate="changed < 0")
    async with pipeline_running(own, broker):
        await happens(own, broker, 0, BEFORE)
        await settled(broker, own.pipeline, BEFORE)
        with trainer_process(own, broker, "--once", "--json") as process:
            assert await ended(process) == 0
    (renewal,) = await ledger_of(own, broker)
    assert renewal.verdict is not None
    assert renewal.verdict.verdict == "lost"
    assert "'changed < 0' is not true" in renewal.verdict.reason
    control = await control_of(own, broker)
    assert control.deployment(FOREST).challenger is None
    assert own.registry.versions(own.pipeline.name, FOREST) == [1, 2]
    async with ControlTopic(broker, topology_of(own)) as topic:
        champion = Promoter(topic, own.file, own.registry).in_service(FOREST)
    assert champion is not None
    assert champion.version == 1
    words = ("renew", str(own.file.path), "--status", "--json")
    shown = await asyncio.to_thread(anabranch, own, *words, broker=broker.broker)
    assert json.loads(shown.stdout)["renewals"][0]["verdict"]["verdict"] == "lost"
