"""`anabranch status` beside pipelines of which only a part runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.broker.pipeline_topics import ensure_topics
from agents.control.control_topic import ControlTopic, now_ms
from agents.process.runner import run_workers
from agents.service.open_pipeline import open_pipeline
from agents.workers.metrics import Metrics
from tests.integration.harness import (
    EVERYTHING,
    Trained,
    publish,
    publish_raw,
    records_of,
    renamed,
    settled,
    simulated,
    stopped,
    worker_process,
)
from tests.integration.test_cli import anabranch
from topics.kafka.batches import Record
from topics.kafka.embedded import EmbeddedBroker
from topics.pipeline.file import PipelineFile, load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

EVENTS = 300
AWAY = ("risk-forest", "decision")


async def status(own: Trained, broker: BrokerSettings, file: Path | None = None) -> dict[str, Any]:
    """What the command prints as JSON; its exit code says whether all is well."""
    words = ("status", str(file or own.file.path), "--json")
    done = await asyncio.to_thread(anabranch, own, *words, broker=broker.broker)
    content: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if content["well"] else 1), done.stderr
    return content


def states(found: dict[str, Any], worker: str) -> set[str]:
    return {each["state"] for each in found["workers"][worker]["partitions"]}


def gauge(metrics: Metrics, own: Trained, name: str, stage: str) -> float | None:
    labels = {"pipeline": own.pipeline.name, "component": "weigh", "stage": stage}
    return metrics.registry.get_sample_value(f"anabranch_{name}", labels)


async def until(holds: Callable[[], bool]) -> None:
    while True:
        if holds():
            return
        await asyncio.sleep(0.1)


def with_stall_timeout(own: Trained, seconds: float) -> PipelineFile:
    """The pipeline's file with another stall time-out, beside it."""
    content = yaml.safe_load(own.file.path.read_text())
    content["weighting"]["stall_timeout_s"] = seconds
    path = own.file.path.with_name(f"stall-{seconds:g}.yaml")
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_pipeline(path)


async def test_who_is_away_and_who_waits_for_them_is_said_until_they_have_come(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renamed(trained, tmp_path)
    # However slow the machine is, rows still wait when they are looked at.
    own = replace(own, file=with_stall_timeout(own, 600))
    topology, metrics = Topology.of(own.pipeline), Metrics()
    await ensure_topics(broker, topology)
    here = [name for name in EVERYTHING if name not in AWAY]
    async with (
        ControlTopic(broker, topology) as control,
        run_workers(open_pipeline(own.file, own.registry, here), broker, metrics, control),
    ):
        await publish(broker, own.pipeline, simulated(own.pipeline, EVENTS), 2000)
        at_work = ("features", "terminals", "terminals.keyed", "risk-linear")
        while "waiting" not in states(state := await status(own, broker), "weigh") or any(
            states(state, name) != {"up"}
            for name in at_work  # rows of theirs are on their way
        ):
            pass
        assert not state["well"]
        for name in AWAY:
            assert states(state, name) == {"down"}
            start = f"anabranch run {own.file.path} --component {name}"
            assert start in [each["command"] for each in state["advice"]]
        waits = [
            each for each in state["workers"]["weigh"]["partitions"] if each["state"] == "waiting"
        ]
        assert {wait["stage"] for each in waits for wait in each["waiting_for"]} <= {*AWAY}
        assert all(each["rows"] > 0 and each["oldest_s"] > 0 for each in waits)
        await until(lambda: (gauge(metrics, own, "waiting_rows", AWAY[0]) or 0) == EVENTS)
        assert (gauge(metrics, own, "waiting_seconds", AWAY[0]) or 0) > 0
        async with (
            ControlTopic(broker, topology) as theirs,
            run_workers(open_pipeline(own.file, own.registry, AWAY), broker, Metrics(), theirs),
        ):
            audit = await settled(broker, own.pipeline, EVENTS)
            assert audit.total.decided == EVENTS
            while not (state := await status(own, broker))["well"]:
                pass
            assert all(states(state, name) == {"up"} for name in state["workers"])
            assert state["advice"] == []
            versions = {each["what"]: each["version"] for worker in state["workers"].values()
                        for each in worker["in_service"]}  # fmt: skip
            assert versions["risk-forest"] == "risk-forest@1"
            assert versions["policy"] == f"{own.pipeline.name}@{own.pipeline.policy.version}"
            names = ("waiting_rows", "waiting_seconds", "stage_down")
            await until(lambda: [gauge(metrics, own, each, AWAY[0]) for each in names] == [0, 0, 0])


async def test_a_worker_that_is_killed_is_down_since_then_and_one_that_ends_in_order_leaves_none(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renamed(trained, tmp_path)
    # What is looked at is not how long a worker may be silent: that takes 30 s as it is.
    impatient = with_stall_timeout(own, 6).path
    await ensure_topics(broker, Topology.of(own.pipeline))  # the command may be there first
    with worker_process(own, broker, "decision", "risk-forest") as worker:
        while states(await status(own, broker, impatient), "decision") != {"up"}:
            pass
        stopped(worker, signal.SIGKILL)
        while states(state := await status(own, broker, impatient), "decision") != {"down"}:
            pass
    decision = state["workers"]["decision"]
    assert all(each["for_s"] >= 6 and each["since"] for each in decision["partitions"])
    (process,) = decision["processes"]
    wrongs = [each["wrong"] for each in state["advice"]]
    assert any(f"nothing was heard of {process['process']}" in wrong for wrong in wrongs)
    with worker_process(own, broker, "decision") as worker:
        while states(state := await status(own, broker, impatient), "decision") != {"up"}:
            pass
        (again,) = state["workers"]["decision"]["processes"]
        assert again["process"] != process["process"], "its predecessor's entry is gone"
        assert [each["process"] for each in state["workers"]["risk-forest"]["processes"]] == [
            process["process"]
        ]
        assert stopped(worker, signal.SIGTERM) == 0
    state = await status(own, broker, impatient)
    assert state["workers"]["decision"]["processes"] == []


async def test_what_others_write_on_the_reports_topic_is_passed_over(
    trained: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    own = renamed(trained, tmp_path)
    topology = Topology.of(own.pipeline)
    await ensure_topics(broker, topology)
    nonsense = [(b"status/weigh/x", b"{"), (b"\xff", b"x"), (None, b""), (b"status/weigh", b"[]"),
                (b"status/weigh/y", b'{"state": "running", "started_ms": 0, "said_ms": 0}'),
                (b"deploy/risk-forest", b"{}")]  # fmt: skip
    now = Record(b"worker/weigh/z", b'{"version": 1, "state": "running", "at": ""}', now_ms())
    said = [*(Record(k, v, 1) for k, v in nonsense), now]
    await publish_raw(broker, topology.reports, 0, said)
    state = await status(own, broker)
    assert states(state, "weigh") == {"down"}
    assert {each["component"] for each in state["workers"].values()} == {*EVERYTHING}
    reports = await records_of(broker, topology.reports)
    # y said so in 1970: it is forgotten, and deleted.
    assert [record.value for record in reports if record.key == b"status/weigh/y"][-1] is None
    assert [record.value for record in reports if record.key == now.key] == [now.value]


async def test_a_living_worker_is_forgotten_by_nobody_whose_clock_is_a_year_ahead(
    trained: Trained, broker: BrokerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topology = Topology.of(renamed(trained, tmp_path).pipeline)
    await ensure_topics(broker, topology)
    at_ms, report = now_ms(), b'{"version": 1, "state": "running", "at": ""}'
    said = [(b"worker/weigh/dead", at_ms - 25 * 3600_000), (b"worker/weigh/living", at_ms)]
    await publish_raw(broker, topology.reports, 0, [Record(key, report, at) for key, at in said])
    monkeypatch.setattr("agents.control.control_topic.now_ms", lambda: at_ms + 365 * 24 * 3600_000)
    async with ControlTopic(broker, topology) as control:
        await control.tidy()
    left = {each.key: each.value for each in await records_of(broker, topology.reports)}
    assert left == {b"worker/weigh/dead": None, b"worker/weigh/living": report}


@pytest.mark.parametrize("as_json", [True, False])
def test_it_is_watched_until_ctrl_c_and_the_exit_code_is_of_what_was_seen_last(
    trained: Trained, tmp_path: Path, *, as_json: bool
) -> None:
    own = renamed(trained, tmp_path)
    with watched(own, "--json" if as_json else "--watch") as (process, _):
        lines = [process.stdout.readline() for _ in range(3)]  # type: ignore[union-attr]  # a pipe
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 1
        assert process.stderr.read() == ""  # type: ignore[union-attr]  # a pipe
    if as_json:
        assert [json.loads(line)["well"] for line in lines] == [False] * 3
    else:
        assert lines[0].split() == ["component", "partitions", "state", "rows", "oldest", "lag"]
        assert lines[1].split()[:3] == ["features", "0-3", "down:"]
        assert max(map(len, lines)) <= 81


def test_a_broker_that_goes_away_while_it_is_watched_ends_it_with_one_sentence(
    trained: Trained, tmp_path: Path
) -> None:
    own = renamed(trained, tmp_path)
    with watched(own, "--json") as (process, broker):
        assert process.stdout.readline()  # type: ignore[union-attr]  # a pipe
        broker.close()
        process.stdout.read()  # type: ignore[union-attr]  # to its end
        text = process.stderr.read()  # type: ignore[union-attr]  # a pipe
        assert process.wait(30) == 1
    assert text.startswith("error: no Kafka broker answers at 127.0.0.1:")
    assert len(text.strip().splitlines()) == 1


@contextmanager
def watched(own: Trained, option: str) -> Iterator[tuple[subprocess.Popen[str], ExitStack]]:
    """`anabranch status --watch` beside a broker with the pipeline's topics and no worker."""
    with ExitStack() as broker:
        address = broker.enter_context(EmbeddedBroker()).address
        settings = BrokerSettings(broker=address, embedded=True)
        asyncio.run(ensure_topics(settings, Topology.of(own.pipeline)))
        process = subprocess.Popen(
            [sys.executable, "-m", "agents", "status", str(own.file.path), "--watch", option],
            env={**os.environ, "ANABRANCH_BROKER": address, "ANABRANCH_EMBEDDED": "true",
                 "COLUMNS": "80"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield process, broker
        finally:
            process.kill()
            process.communicate()


def test_without_a_broker_one_sentence_says_so(trained: Trained, tmp_path: Path) -> None:
    done = anabranch(trained, "status", str(trained.file.path), broker="127.0.0.1:1")
    assert done.returncode == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
