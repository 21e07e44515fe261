"""A renewal that goes on learning from the version in service, and one whose fit is stopped."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from agents.renewal.renewal_log import RenewalLog
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    pipeline_running,
    settled,
    stopped,
    trained_small,
    with_section,
)
from tests.integration.renewal_scene import (
    control_of,
    ended,
    happens,
    ledger_of,
    renewing,
    trainer_process,
    until,
)
from tests.integration.test_cli import anabranch
from tests.integration.test_renewal import WANTED, has_begun, has_ended, topology_of
from topics.settings import BrokerSettings

LINEAR = "risk-linear"
LATER = timedelta(days=60)
FIRST, SECOND = 3000, 2000


def goes_on(content: Any) -> None:
    """The linear component can, and its first version keeps its state."""
    for component in content["components"]:
        if component["name"] == LINEAR:
            component["model"] = {
                "estimator": "sklearn.linear_model.SGDClassifier",
                "parameters": {"loss": "log_loss"},
            }
    content["renew"] = {"components": [LINEAR], "incremental": [LINEAR]}


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    home = tmp_path_factory.mktemp("linear")
    return trained_small("card-fraud", home, rows=20_000, trees=5, edit=goes_on)


def going_on(linear: Trained, home: Path, **renew: object) -> Trained:
    """With a gate that nothing passes: a renewal ends as soon as it has trained."""
    wanted: dict[str, Any] = {
        "components": [LINEAR], "incremental": [LINEAR], "gate": "changed < 0", **renew,
    }  # fmt: skip
    return renewing(linear, home, **wanted)


def matured(own: Trained, count: int) -> int:
    """How many of the first *count* events are an hour older than the newest."""
    from itertools import islice

    from models.simulators import SIMULATORS

    times = [
        datetime.fromisoformat(str(each.event["occurred_at"]))
        for each in islice(SIMULATORS["card-fraud"](7), count)
    ]
    newest = max(times) - timedelta(hours=1)
    return sum(at < newest for at in times)


async def test_each_event_is_learned_once_by_one_version_after_the_other(
    linear: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = going_on(linear, tmp_path)
    name = own.pipeline.name
    base = own.registry.get(name, LINEAR, 1)
    async with pipeline_running(own, broker):
        await happens(own, broker, 0, FIRST, LATER)
        await settled(broker, own.pipeline, FIRST)
        with trainer_process(own, broker, "--once") as process:
            async with RenewalLog(broker, topology_of(own)) as renewals:
                await until(renewals, has_begun("train"), process)
                await asyncio.to_thread(stopped, process, signal.SIGKILL)
        with trainer_process(own, broker, "--once") as process:  # it ends that one, and does its
            assert await ended(process) == 0
        killed, one = (own.registry.get(name, LINEAR, version) for version in (2, 3))
        words = ("models", "promote", f"{own.file.path}/{LINEAR}@3", "--wait", "200")
        done = await asyncio.to_thread(anabranch, own, *words, broker=broker.broker)
        assert done.returncode == 0, done.stderr
        await happens(own, broker, FIRST, SECOND, LATER)
        await settled(broker, own.pipeline, FIRST + SECOND)
        with trainer_process(own, broker, "--once") as process:
            assert await ended(process) == 0
        two = own.registry.get(name, LINEAR, 4)
        with trainer_process(own, broker, "--once") as process:  # 3 is in service still
            assert await ended(process) == 0
    first, second, *_ = await ledger_of(own, broker)
    assert own.registry.versions(name, LINEAR) == [1, 2, 3, 4, 5]
    assert (killed.digest, killed.card.continues) == (one.digest, one.card.continues)
    assert one.card.continues is not None
    assert two.card.continues is not None
    assert (one.card.continues.version, two.card.continues.version) == (1, 3)
    assert one.card.continues.until < two.card.continues.since
    fed = one.card.continues.rows, two.card.continues.rows
    assert abs(sum(fed) - matured(own, FIRST + SECOND)) <= 60  # the clock is a median
    assert two.card.rows == base.card.rows + sum(fed)
    assert one.digest != base.digest != two.digest
    assert [each.verdict.verdict for each in (first, second) if each.verdict] == ["lost", "lost"]
    again = own.registry.get(name, LINEAR, 5)
    assert (again.digest, again.card.continues) == (two.digest, two.card.continues)


async def test_a_renewal_without_a_new_outcome_comes_to_nothing(
    linear: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = going_on(linear, tmp_path)
    async with pipeline_running(own, broker):
        await happens(own, broker, 0, 300)  # all of before the newest that the model knows
        await settled(broker, own.pipeline, 300)
        with trainer_process(own, broker, "--once") as process:
            assert await ended(process) == 0
    (renewal,) = await ledger_of(own, broker)
    assert renewal.verdict is not None
    assert renewal.verdict.verdict == "undecided"
    assert "since the last fit" in renewal.verdict.reason
    assert own.registry.versions(own.pipeline.name, LINEAR) == [1]


async def test_a_fit_that_runs_ends_when_its_renewal_is_stopped(
    linear: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = with_section(renewing(linear, tmp_path), "renew", {"components": ["risk-forest"]})
    endless = yaml.safe_load(own.file.path.read_text())
    for component in endless["components"]:
        if component["name"] == "risk-forest":
            component["model"]["parameters"] |= {"n_estimators": 10_000_000}
    own.file.path.write_text(yaml.safe_dump(endless, sort_keys=False))
    async with pipeline_running(own, broker), RenewalLog(broker, topology_of(own)) as renewals:
        await happens(own, broker, 0, FIRST)
        await settled(broker, own.pipeline, FIRST)
        await renewals.append(WANTED)
        with trainer_process(own, broker, "--once") as process:
            await until(renewals, has_begun("train"), process)
            fits = await fitting_under(process.pid)
            with trainer_process(own, broker, "--stop", "--reason", "too large") as stopping:
                assert await ended(stopping) == 0
            assert not any(psutil.pid_exists(each.pid) for each in fits)
            await until(renewals, has_ended, process)
    (renewal, *_) = await ledger_of(own, broker)
    assert renewal.verdict is not None
    assert renewal.verdict.verdict == "stopped"
    assert own.registry.versions(own.pipeline.name, "risk-forest") == [1]
    assert (await control_of(own, broker)).deployment("risk-forest").challenger is None


async def fitting_under(pid: int) -> list[psutil.Process]:
    """The processes below *pid* once one of them has computed for some seconds."""
    deadline = time.monotonic() + PATIENCE_S

    def busy() -> Iterator[psutil.Process]:
        for child in psutil.Process(pid).children(recursive=True):
            if sum(child.cpu_times()[:2]) > 5:
                yield child

    while not (fits := [*busy()]):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    return fits


async def test_a_renewal_on_ray_with_variants_goes_through_all_steps_up_to_the_gate(
    linear: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    wanted: dict[str, Any] = {"components": ["risk-forest"], "engine": "ray", "variants": True}
    own = renewing(linear, tmp_path, **wanted, gate="changed < 0")
    async with pipeline_running(own, broker):
        await happens(own, broker, 0, FIRST)
        await settled(broker, own.pipeline, FIRST)
        with trainer_process(own, broker, "--once") as process:
            assert await ended(process) == 0
    (renewal,) = await ledger_of(own, broker)
    assert renewal.verdict is not None
    assert renewal.verdict.verdict == "lost"
    assert "'changed < 0' is not true" in renewal.verdict.reason
    assert {name: renewal.attempts[name] for name in ("train", "optimise", "replay")} == {
        "train": 1, "optimise": 1, "replay": 1,
    }  # fmt: skip
    optimised = renewal.done("optimise")
    assert optimised.reason.startswith(("risk-forest@3 is ", "all stay fp32"))
    assert optimised.versions["risk-forest"] in (2, 3)
