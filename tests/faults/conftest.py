"""Seeds, brokers and the table of what faults have led to."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pytest

from models.simulators import LabelledEvent
from models.simulators.card_fraud import simulate
from tests.faults.scene import Scene
from tests.faults.verdict import Reference, Verdict, judged
from tests.integration.harness import Trained, renamed, trained_small
from tests.integration.skew import trained_outputs
from tests.kafka_nodes import Cluster, cluster_of_three, one_broker
from topics.kafka import batches
from topics.settings import BrokerSettings

EVENTS = 8000


class Result(NamedTuple):
    """One run of one fault."""

    fault: str
    verdict: Verdict
    recoveries: tuple[float, ...]


_results = pytest.StashKey[list[Result]]()
_own = pytest.StashKey[list[Result]]()
"""Those of one test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--seeds", type=int, default=1, help="how often each seeded fault is tried")
    group.addoption("--long", action="store_true", help="long faults for as long as they are meant")
    group.addoption("--short-burst", action="store_true", help="60,000 events, not 400,000")
    group.addoption("--table", metavar="FILE", help="write the results there, as .md or .json")
    group.addoption(
        "--resume", metavar="FILE",
        help="keep what has passed there, a line each, and do not run it again",
    )  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--seeds", 1)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("faults")
            item.add_marker("kafka")
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(400))
    passed = {line["test"] for line in _passed(config)}
    if done := [item for item in items if item.nodeid in passed]:
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if item.nodeid not in passed]


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_results] = [
        Result(each["fault"], Verdict(**each["verdict"]), tuple(each["recoveries"]))
        for line in _passed(config)
        for each in line["results"]
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    path = item.config.getoption("--resume", None)
    if path and report.when == "call" and report.passed:
        results = [
            {"fault": each.fault, "verdict": asdict(each.verdict), "recoveries": each.recoveries}
            for each in item.stash.get(_own, [])
        ]
        line = {"test": item.nodeid, "commit": _commit(), "results": results}
        with Path(path).open("a") as file:
            file.write(json.dumps(line) + "\n")
    return report


def _passed(config: pytest.Config) -> list[dict[str, Any]]:
    """What earlier runs have kept."""
    path = config.getoption("--resume", None)
    if not path or not Path(path).exists():
        return []
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


@pytest.fixture(autouse=True)
def patient_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher outlasts every fault: it is not what these tests are about."""
    monkeypatch.setattr(batches, "TIMEOUT_S", 240.0)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerSettings]:
    """A single broker."""
    with one_broker(tmp_path_factory.mktemp("kafka")) as settings:
        yield settings


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three brokers, all of them up when a test begins."""
    with cluster_of_three(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Card fraud as it ships, with all its windows and time-outs; its forest has fewer trees."""
    home = tmp_path_factory.mktemp("shipped")
    return trained_small("card-fraud", home, rows=60_000, trees=5)


@pytest.fixture(scope="session")
def events() -> list[LabelledEvent]:
    """Two months of 60 customers: outcomes are known, and windows reach back."""
    return list(islice(simulate(3, customers=60, terminals=80, radius=30.0), EVENTS))


@pytest.fixture(scope="session")
def many(request: pytest.FixtureRequest) -> list[LabelledEvent]:
    """A burst: 400,000 events, or with --short-burst 60,000."""
    count = 60_000 if request.config.getoption("--short-burst", False) else 400_000
    return list(islice(simulate(4, customers=5000, terminals=10_000, radius=5.0), count))


@pytest.fixture(scope="session")
def reference(shipped: Trained, events: list[LabelledEvent]) -> Reference:
    """What one process says of the events without any broker."""
    return signals_of(shipped, events)


def signals_of(trained: Trained, events: list[LabelledEvent]) -> Reference:
    """Event id → stage → signal, computed in this process."""
    signals: dict[str, dict[str, float]] = defaultdict(dict)
    for name, rows in trained_outputs(trained, events).items():
        if name in trained.pipeline.weighting.inputs:
            for row, (_, signal) in rows.items():
                signals[row][name] = float(np.frombuffer(signal, np.float32)[0])
    return signals


@pytest.fixture
def pipeline(shipped: Trained, tmp_path: Path) -> Trained:
    """The pipeline by a name of its own."""
    return renamed(shipped, tmp_path)


Judge = Callable[[Scene, Reference | None], Awaitable[None]]


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Judges what a scene has come to, and enters it into the table."""

    async def judge(scene: Scene, reference: Reference | None) -> None:
        verdict = await judged(scene.trained, scene.broker, reference)
        fault = request.node.originalname.removeprefix("test_").replace("_", " ")
        result = Result(fault, verdict, tuple(scene.recoveries))
        request.config.stash[_results].append(result)
        request.node.stash.setdefault(_own, []).append(result)
        degraded = 0 if scene.may_degrade else verdict.degraded
        dead = verdict.dead - scene.invalid
        assert replace(verdict, degraded=degraded, dead=dead).passed, verdict

    return judge


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    results = config.stash[_results]
    if not results:
        return
    terminalreporter.section("what the faults led to")
    terminalreporter.write_line(_table(results))
    if path := config.getoption("--table", None):
        Path(path).write_text(_json(results) if path.endswith(".json") else _table(results) + "\n")


def _rows(results: list[Result]) -> list[dict[str, object]]:
    by_fault: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_fault[result.fault].append(result)
    rows = []
    for fault, runs in by_fault.items():
        recoveries = [seconds for run in runs for seconds in run.recoveries]
        verdicts = [run.verdict for run in runs]
        rows.append({
            "fault": fault, "seeds": len(runs), "events": sum(v.events for v in verdicts),
            "lost": sum(v.lost for v in verdicts),
            "duplicated": sum(v.duplicated for v in verdicts),
            "dead": sum(v.dead for v in verdicts),
            "degraded": sum(v.degraded for v in verdicts),
            "wrong": sum(v.wrong + v.disordered for v in verdicts),
            "recovery_s_p50": round(median(recoveries), 1) if recoveries else None,
            "recovery_s_max": round(max(recoveries), 1) if recoveries else None,
        })  # fmt: skip
    return rows


def _json(results: list[Result]) -> str:
    return json.dumps(_rows(results), indent=1)


def _table(results: list[Result]) -> str:
    lines = [
        "| fault | seeds | events | lost | twice | dead | degraded | wrong | recovery p50 / max |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in _rows(results):
        recovery = (
            f"{row['recovery_s_p50']} / {row['recovery_s_max']} s" if row["recovery_s_max"] else "–"
        )
        lines.append(
            f"| {row['fault']} | {row['seeds']} | {row['events']:,} | {row['lost']} "
            f"| {row['duplicated']} | {row['dead']} | {row['degraded']} | {row['wrong']} "
            f"| {recovery} |"
        )
    return "\n".join(lines)
