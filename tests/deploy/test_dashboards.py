"""Dashboards as Grafana reads them, and their queries as Prometheus answers them."""

from __future__ import annotations

import asyncio
import copy
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

import httpx
import orjson
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import CollectorRegistry

from agents.broker import ensure_topics
from agents.commands.audit import AuditMetrics
from agents.drift.drift_watcher import DriftMetrics
from agents.gateway.metrics import GatewayMetrics
from agents.learning.metrics import LearningMetrics
from agents.manifests.grafana import Scope, generated
from agents.process.build_info import BuildInfo
from agents.renewal.renewal_metrics import RenewalMetrics
from agents.workers.metrics import Metrics
from deploy.grafana.queries import FOLDER, Target, dashboards, filled, over_time, targets
from models.registry.registry import Registry
from tests.deploy.broker_tools import jmx_agent
from tests.deploy.prometheus import (
    DEPLOYED,
    monitored,
    need,
    node_exporter,
    prometheus,
    rule_errors,
)
from tests.integration.harness import (
    EVERYTHING,
    Trained,
    explaining,
    exploring,
    publish,
    publish_raw,
    records_of,
    simulated,
    with_section,
)
from tests.integration.test_cli import anabranch
from tests.kafka_nodes import free_ports, one_broker
from topics.kafka.batches import Record
from topics.kafka.embedded import EmbeddedBroker
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.readers import readers
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

EVENTS, STEP, BAD, RATE, INTERVAL = 6000, 300, 20, 250.0, "10s"
UNITS = {"eps", "rowsps", "suffix: records", "s", "percentunit", "short", "bytes", "reqps"}


def _known() -> set[str]:
    """Every series that workers and audits have, by its metric's name and ending."""
    of_gateway = GatewayMetrics("p", lambda: 0, lambda: True).registry
    of_weights, of_drift = CollectorRegistry(), CollectorRegistry()
    LearningMetrics("p", ["a"], of_weights)
    DriftMetrics("p", of_drift)
    renewals = RenewalMetrics(load_pipeline(find_pipeline("card-fraud")).pipeline).registry
    of_process = [Metrics().registry, AuditMetrics().registry, of_gateway]
    registries = [*of_process, renewals, of_weights, of_drift]
    BuildInfo("", "", "", "").show(registries[0], "p")
    made = [metric.name for registry in registries for metric in registry.collect()]
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
    stale = "stale: run anabranch deploy grafana -o deploy/grafana/dashboards"
    assert committed == generated(Scope()), stale


@pytest.mark.parametrize("name", dashboards())
def test_a_dashboard_survives_grafanas_schema(name: str) -> None:
    register_default_plugins()
    content = dashboards()[name]
    read = Dashboard.from_json(copy.deepcopy(content))
    for mark in content["annotations"].get("list", ()):
        assert mark.pop("titleFormat"), "of Prometheus' annotations; the SDK does not know them"
        assert mark.pop("step")
    assert json.loads(JSONEncoder().encode(read)) == content


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
    assert asked <= _known(), "no metric of Metrics, AuditMetrics, GatewayMetrics or RenewalMetrics"


class Scene(NamedTuple):
    """A Prometheus that has watched a pipeline from *start* to *end*, in seconds since 1970."""

    url: str
    start: float
    end: float


@pytest.fixture(scope="module")
def watched(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Card fraud in three workers, an audit and a gateway, with events, letters and a redrive."""
    need("prometheus")
    directory = tmp_path_factory.mktemp("prometheus")
    # A copy: it gets a second version of a model.
    home = Path(shutil.copytree(trained.home, directory / "home"))
    file_of = load_pipeline(home / trained.file.path.name)
    trained = Trained(home, file_of, Registry(home / "registry"))
    trained = explaining(trained, when=["decline", "review"], share_of_others=0.1)
    trained = exploring(trained, **{"of": ["decline", "review"], "as": "approve", "share": 0.3})
    trained = with_section(trained, "renew", {"on": ["schedule"]})
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
                ["run", file, "--component", "explainer"],
            ])
        ]  # fmt: skip
        audit = stack.enter_context(
            monitored(trained, broker, directory / "audit.log", "audit", file, "--follow")
        )
        (port,) = free_ports(1)
        asked = ["gateway", file, "--port", str(port)]
        gateway = stack.enter_context(monitored(trained, broker, directory / "gateway.log", *asked))
        trainer = stack.enter_context(
            monitored(trained, broker, directory / "renew.log", "renew", file)
        )
        node = stack.enter_context(node_exporter(directory / "node.log"))
        jobs = {
            "anabranch-trainer": [trainer],
            "anabranch": workers, "anabranch-audit": [audit], "anabranch-gateway": [gateway],
            "node": [node],
        }  # fmt: skip
        url = stack.enter_context(prometheus(directory, jobs))
        start = time.time()
        asyncio.run(_busy(trained, broker, 0, EVENTS // 2))
        _challenge(trained, address)
        asyncio.run(_busy(trained, broker, EVENTS // 2, EVENTS))
        _question(trained, port)
        words = ("redrive", file, "--edit", ".amount = 1", "--limit", "3", "--yes", "--json")
        done = anabranch(trained, "dead-letters", *words, broker=address)
        assert json.loads(done.stdout)["decided"] == 3, done.stderr
        time.sleep(3)
        yield Scene(url, start, time.time())


def _question(trained: Trained, port: int) -> None:
    """Requests over HTTP for as long as a rate is taken over: with a key, and without a field."""
    (_, event), url = (
        simulated(trained.pipeline, 1)[0],
        f"http://127.0.0.1:{port}/predict?deadline_ms=60000",
    )
    for number in range(20):
        for content, status in ((event, 200), (b"{}", 400)):
            headers = {"content-type": "application/json", "idempotency-key": str(number // 2)}
            answer = httpx.post(url, content=content, headers=headers, timeout=60)
            assert answer.status_code == status, answer.text
        time.sleep(0.2)


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


def _problems(scene: Scene, asked: Iterator[Target], **chosen: str) -> Iterator[str]:
    """What is wrong with the answers to queries: no data, or no label that a legend names."""
    for target in asked:
        expr = filled(target.expr, interval=INTERVAL, **chosen)
        found = over_time(scene.url, expr, scene.start, scene.end, 1)
        if not any(math.isfinite(value) for series in found for value in series.values):
            yield f"{target.name}: no data: {expr}"
        for label in re.findall(r"\{\{(\w+)\}\}", target.legend):
            if not any(label in series.labels for series in found):
                yield f"{target.name}: no label {label}: {expr}"


def _is_of_kafka(target: Target) -> bool:
    return "kafka_" in target.expr


def _never_happens(target: Target) -> bool:
    """What the scene has none of: a monitor, refusals, other weights and policy, alerts."""
    if re.search("anabranch_(live_|stage_quarantined|drift_)", target.expr):
        return True
    return target.panel["type"] == "annotation" and target.panel["title"] in {
        "Refused", "Weights", "Policy", "Alerts",
    }  # fmt: skip


@pytest.mark.timeout(600)
def test_every_query_of_every_panel_returns_data(watched: Scene) -> None:
    """One test, not one a query: those would be dealt out to processes that each want a scene."""
    asked = (each for each in targets() if not _is_of_kafka(each) and not _never_happens(each))
    problems = [*rule_errors(watched.url), *_problems(watched, asked)]
    assert not problems, "\n".join(problems)
    for target in filter(_never_happens, targets()):  # Prometheus takes them all the same
        expr = filled(target.expr, interval=INTERVAL)
        over_time(watched.url, expr, watched.start, watched.end, 1)


def test_no_series_says_when_another_was_made(watched: Scene) -> None:
    created = '{__name__=~".+_created",job=~"anabranch.*"}'
    assert not over_time(watched.url, created, watched.start, watched.end, 5)


@pytest.mark.kafka
def test_every_query_about_brokers_returns_data_of_kafkas_exporter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("prometheus")
    (port,) = free_ports(1)
    rules = DEPLOYED / "kafka-jmx.yml"
    monkeypatch.setenv("KAFKA_OPTS", f"-javaagent:{jmx_agent()}=127.0.0.1:{port}:{rules}")
    (tmp_path / "kafka").mkdir()
    with one_broker(tmp_path / "kafka") as broker, prometheus(tmp_path, {"kafka": [port]}) as url:
        start = time.time()
        topology = Topology.of(load_pipeline(find_pipeline("card-fraud")).pipeline)
        asyncio.run(ensure_topics(broker, topology))
        record = Record(None, b"x" * 1000, int(start * 1000))
        for _ in range(10):
            asyncio.run(publish_raw(broker, topology.events, 0, [record]))
            time.sleep(1)
        asyncio.run(records_of(broker, topology.events))
        time.sleep(5)
        scene = Scene(url, start, time.time())
        asked = [target for target in targets() if _is_of_kafka(target)]
        assert len(asked) >= 6
        problems = list(_problems(scene, iter(asked)))
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("name", ["card-fraud", "road-risk", "tumour-triage"])
def test_dashboards_of_one_pipeline_are_its_own(name: str) -> None:
    pipeline = load_pipeline(find_pipeline(name)).pipeline
    boards = {path: json.loads(text) for path, text in generated(Scope(pipeline)).items()}
    uids = {board["uid"] for board in boards.values()} - {"anabranch-runbooks"}
    assert len(uids) == len(boards) - 1
    assert not uids & {content["uid"] for content in dashboards().values()}
    assert all(len(uid) <= 40 for uid in uids), "Grafana's bound"
    variables = {
        each["name"]: each["query"] for each in boards["component.json"]["templating"]["list"]
    }
    assert variables["pipeline"] == name
    assert variables["component"].split(",") == list(readers(pipeline))
    for threshold in pipeline.policy.thresholds.values():
        (scores,) = [
            panel
            for panel in boards["decisions.json"]["panels"]
            if panel["title"] == "Scores, quantiles"
        ]
        steps = scores["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert threshold in [step["value"] for step in steps]


def test_the_command_writes_dashboards_and_says_where(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agents", "deploy", "grafana", "card-fraud", "-o", tmp_path / "new"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "8 dashboards in" in done.stderr
    assert len(list((tmp_path / "new").glob("*.json"))) == len(dashboards())
