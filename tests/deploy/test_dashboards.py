"""Dashboards as Grafana reads them, and their queries as Prometheus answers them."""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from agents.commands.audit import AuditMetrics
from agents.workers.metrics import Metrics
from deploy.grafana.generate import FOLDER, generated
from deploy.grafana.queries import dashboards, filled, over_time, targets
from models.registry.registry import Registry
from tests.deploy.prometheus import DEPLOYED, monitored, need, prometheus, rule_errors
from tests.integration.harness import (
    EVERYTHING,
    Trained,
    publish,
    publish_raw,
    simulated,
)  # fmt: skip
from tests.integration.test_cli import anabranch
from topics.kafka.batches import Record
from topics.kafka.embedded import EmbeddedBroker
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

EVENTS, STEP, BAD, RATE, INTERVAL = 6000, 300, 20, 250.0, "10s"
UNITS = {"eps", "rowsps", "suffix: records", "s", "percentunit", "short", "bytes"}


def _known() -> set[str]:
    """Every series that workers and audits have, by its metric's name and ending."""
    made = [m.name for source in (Metrics(), AuditMetrics()) for m in source.registry.collect()]
    endings = ("", "_total", "_bucket", "_count", "_sum", "_info")
    return {name + ending for name in made for ending in endings}


PANELS = [
    (name, panel)
    for name, content in dashboards().items()
    for panel in content["panels"]
    if panel["type"] not in ("row", "text")
]


def test_the_files_are_what_the_code_generates() -> None:
    committed = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert committed == generated(), "stale: run python -m deploy.grafana.generate"


@pytest.mark.parametrize("name", dashboards())
def test_a_dashboard_survives_grafanas_schema(name: str) -> None:
    register_default_plugins()
    content = dashboards()[name]
    read = Dashboard.from_json(content)
    assert (
        JSONEncoder(sort_keys=True, indent=2).encode(read) + "\n"
        == (FOLDER / f"{name}.json").read_text()
    )


def test_every_dashboard_has_an_id_of_its_own_and_so_has_every_panel_in_it() -> None:
    contents = dashboards()
    uids = [content["uid"] for content in contents.values()]
    assert len(set(uids)) == len(uids)
    for content in contents.values():
        ids = [panel["id"] for panel in content["panels"]]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", dashboards())
def test_panels_do_not_lie_on_each_other(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboards()[name]["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel.get("title")
        taken |= cells


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=lambda each: str(_title(each)))
def test_a_panel_says_what_it_shows_in_which_unit_and_what_to_do(
    name: str, panel: dict[str, Any]
) -> None:
    assert len(panel["description"]) > 40
    if panel["type"] == "heatmap":
        assert panel["options"]["yAxis"]["unit"] in UNITS
    elif panel["type"] != "table":
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["targets"]
    assert {query["datasource"]["uid"] for query in panel["targets"]} == {"${datasource}"}
    runbook_panels = {p["id"]: p["title"] for p in dashboards()["runbooks"]["panels"]}
    for link in panel.get("links", ()):
        uid, number = re.fullmatch(r"/d/([a-z-]+)\?viewPanel=(\d+)", link["url"]).groups()  # type: ignore[union-attr]
        assert uid == dashboards()["runbooks"]["uid"]
        assert link["title"] == f"What to do: {runbook_panels[int(number)]}"


def _title(it: object) -> str:
    return it["title"] if isinstance(it, dict) else str(it)


def test_queries_name_metrics_that_exist() -> None:
    text = "\n".join([*(t.expr for t in targets()), (DEPLOYED / "rules.yml").read_text()])
    asked = set(re.findall(r"(?<![:\w/-])anabranch_\w+", text))
    assert asked <= _known(), "no metric of Metrics or AuditMetrics"


class Scene(NamedTuple):
    """A Prometheus that has watched a pipeline from *start* to *end*, in seconds since 1970."""

    url: str
    start: float
    end: float


@pytest.fixture(scope="module")
def watched(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Card fraud in two workers and an audit, with events, dead letters and a redrive."""
    need("prometheus")
    directory = tmp_path_factory.mktemp("prometheus")
    # A copy: it gets a second version of a model.
    home = Path(shutil.copytree(trained.home, directory / "home"))
    file_of = load_pipeline(home / trained.file.path.name)
    trained = Trained(home, file_of, Registry(home / "registry"))
    file = str(trained.file.path)
    first = [word for name in EVERYTHING if name != "weigh" for word in ("--component", name)]
    with ExitStack() as stack:
        address = stack.enter_context(EmbeddedBroker()).address
        broker = BrokerSettings(broker=address, embedded=True)
        asyncio.run(publish(broker, trained.pipeline, [], 1))
        workers = [
            stack.enter_context(monitored(trained, broker, directory / f"{n}.log", *words))
            for n, words in enumerate([
                ["run", file, *first], ["run", file, "--component", "weigh"],
            ])
        ]  # fmt: skip
        audit = stack.enter_context(
            monitored(trained, broker, directory / "audit.log", "audit", file, "--follow")
        )
        jobs = {"anabranch": workers, "anabranch-audit": [audit]}
        url = stack.enter_context(prometheus(directory, jobs))
        start = time.time()
        asyncio.run(_busy(trained, broker, 0, EVENTS // 2))
        _challenge(trained, address)
        asyncio.run(_busy(trained, broker, EVENTS // 2, EVENTS))
        words = ("redrive", file, "--edit", ".amount = 1", "--limit", "3", "--yes", "--json")
        done = anabranch(trained, "dead-letters", *words, broker=address)
        assert json.loads(done.stdout)["decided"] == 3, done.stderr
        time.sleep(3)
        yield Scene(url, start, time.time())


def _negative(event: bytes) -> bytes:
    """The event with an amount that the pipeline's file does not allow."""
    return orjson.dumps(orjson.loads(event) | {"amount": -1})


async def _busy(trained: Trained, broker: BrokerSettings, first: int, last: int) -> None:
    """Good events, bad ones among them, and a record that is none on a stage's topic."""
    events = simulated(trained.pipeline, last)[first:]
    topology = Topology.of(trained.pipeline)
    now = int(time.time() * 1000)
    for begin in range(0, len(events), STEP):
        bad = [Record(key, _negative(value), now) for key, value in events[begin : begin + BAD]]
        await publish_raw(broker, topology.events, 0, bad)
        await publish(broker, trained.pipeline, events[begin : begin + STEP], RATE)
    await publish_raw(broker, topology.stage("features"), 1, [Record(None, b"odd", now)])


def _challenge(trained: Trained, address: str) -> None:
    """A second forest, which a fifth of the keys get; the first goes into service by name."""
    file = trained.file.path
    for words in (
        ("train", str(file), "--component", "risk-forest", "--rows", "60000"),
        ("models", "promote", f"{file}/risk-forest@1"),
        ("models", "canary", f"{file}/risk-forest@2", "--share", "20%"),
    ):
        done = anabranch(trained, *words, broker=address, timeout=300)
        assert done.returncode == 0, done.stderr


@pytest.mark.timeout(600)
def test_every_query_of_every_panel_returns_data(watched: Scene) -> None:
    """One test, not one a query: those would be dealt out to processes that each want a scene."""
    problems = list(rule_errors(watched.url))
    for target in targets():
        expr = filled(target.expr, interval=INTERVAL)
        found = over_time(watched.url, expr, watched.start, watched.end, 1)
        if not any(math.isfinite(value) for series in found for value in series.values):
            problems.append(f"{target.name}: no data: {expr}")
        problems += [
            f"{target.name}: no label {label}: {expr}"
            for label in re.findall(r"\{\{(\w+)\}\}", target.legend)
            if not any(label in series.labels for series in found)
        ]
    assert not problems, "\n".join(problems)


def test_generating_says_what_it_wrote() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.grafana.generate"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.count("wrote") == len(dashboards())
