"""Alerts: each is seen to fire and to resolve, and has a page with commands that exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.core
import typer.main
import yaml

from agents.cli import app
from agents.manifests.alerts.rules import GRAFANA_URL, alert_rules, linked
from agents.manifests.alerts.runbooks import runbook_path
from agents.workers.metrics import Metrics
from deploy.runbook_lines import plain
from tests.deploy.prometheus import DEPLOYED, need

ROOT = DEPLOYED.parents[1]
PAGES = sorted(page for page in (ROOT / "deploy/runbooks").glob("*.md") if page.stem != "README")
GROUPS = yaml.safe_load((DEPLOYED / "rules.yml").read_text())["groups"]
ALERTS = [rule for group in GROUPS for rule in group["rules"] if "alert" in rule]


class Command(NamedTuple):
    """A command of a runbook, and where it stands."""

    page: str
    line: str
    words: list[str]


def _commands() -> Iterator[Command]:
    """What the plain lines of the pages call, each side of a pipe by itself."""
    for page in PAGES:
        for line in (line.command for block in plain(page.read_text()) for line in block):
            words = shlex.split(line)
            while "|" in words:
                yield Command(page.stem, line, words[: words.index("|")])
                words = words[words.index("|") + 1 :]
            yield Command(page.stem, line, words)


COMMANDS = list(_commands())


def promtool(*words: str) -> None:
    need("promtool")
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_its_configuration() -> None:
    promtool("check", "config", str(DEPLOYED / "prometheus.yml"))


def test_rules_parse_and_have_no_duplicates() -> None:
    promtool("check", "rules", "--lint-fatal", str(DEPLOYED / "rules.yml"))


def test_every_alert_fires_says_what_it_should_and_resolves() -> None:
    promtool("test", "rules", str(DEPLOYED / "rules_test.yml"))


def test_the_tests_of_rules_see_every_alert_before_while_and_after_it_fires() -> None:
    states: dict[tuple[str, str], list[bool]] = {}
    for case in yaml.safe_load((DEPLOYED / "rules_test.yml").read_text())["tests"]:
        for look in case.get("alert_rule_test", ()):
            fires = states.setdefault((look["alertname"], case["name"]), [])
            fires.append(bool(look.get("exp_alerts")))
            for alert in look.get("exp_alerts", ()):
                assert alert["exp_annotations"]
    seen = {alert for (alert, _), fires in states.items() if _fires_between(fires)}
    assert seen == {alert["alert"] for alert in ALERTS}
    severities = {
        (look["alertname"], alert["exp_labels"]["severity"])
        for case in yaml.safe_load((DEPLOYED / "rules_test.yml").read_text())["tests"]
        for look in case.get("alert_rule_test", ())
        for alert in look.get("exp_alerts", ())
    }
    assert severities == {(alert["alert"], alert["labels"]["severity"]) for alert in ALERTS}


def _fires_between(fires: list[bool]) -> bool:
    return not fires[0] and any(fires) and not fires[-1]


@pytest.mark.parametrize(
    "alert", ALERTS, ids=lambda each: f"{each['alert']}-{each['labels']['severity']}"
)
def test_an_alert_has_a_severity_a_summary_values_a_page_and_a_dashboard(
    alert: dict[str, Any],
) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    said = alert["annotations"]
    assert "{{ $labels." in said["summary"]
    assert "{{ $value" in said["description"] or alert["expr"].endswith("== 0")
    assert said["runbook_url"] == f"{GRAFANA_URL}{runbook_path(alert['alert'])}"
    assert (ROOT / f"deploy/runbooks/{alert['alert']}.md").is_file()
    uids = {path.stem for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")}
    assert said["dashboard"].removeprefix(f"{GRAFANA_URL}/d/anabranch-") in uids


def test_the_rules_link_as_they_are_generated_and_elsewhere_as_they_are_told_to() -> None:
    committed = (DEPLOYED / "rules.yml").read_text()
    assert alert_rules() == committed, "write a link for a new alert: its own, whatever it is"
    moved = yaml.safe_load(alert_rules("https://grafana.example/", "https://wiki.example/pages/"))
    for alert in (rule for group in moved["groups"] for rule in group["rules"] if "alert" in rule):
        assert (
            alert["annotations"]["runbook_url"] == f"https://wiki.example/pages/{alert['alert']}.md"
        )
        assert alert["annotations"]["dashboard"].startswith("https://grafana.example/d/anabranch-")
    assert linked(alert_rules("https://x.example", "https://y.example"), GRAFANA_URL) == committed


def test_a_link_to_a_runbook_leads_to_its_panel() -> None:
    board = json.loads((ROOT / "deploy/grafana/dashboards/runbooks.json").read_text())
    panels = {panel["id"]: panel["title"] for panel in board["panels"]}
    assert len(panels) == len(PAGES)
    for page in PAGES:
        uid, number = runbook_path(page.stem).removeprefix("/d/").split("?viewPanel=")
        assert uid == board["uid"]
        assert panels[int(number)] == page.stem


def test_the_command_writes_rules_anew_and_what_is_filled_in_once(tmp_path: Path) -> None:
    def written(*words: str) -> None:
        command = [sys.executable, "-m", "agents", "deploy", "prometheus", *words]
        subprocess.run([*command, "-o", str(tmp_path / "out")], check=True, capture_output=True)

    written("--grafana-url", "https://grafana.example")
    (tmp_path / "out/alertmanager.yml").write_text("filled in")
    written("--grafana-url", "https://other.example")
    assert "https://other.example/d/" in (tmp_path / "out/rules.yml").read_text()
    assert (tmp_path / "out/alertmanager.yml").read_text() == "filled in"
    promtool("check", "config", str(tmp_path / "out/prometheus.yml"))


def test_every_page_belongs_to_an_alert_and_the_table_of_pages_names_all() -> None:
    assert {page.stem for page in PAGES} == {alert["alert"] for alert in ALERTS}
    table = (ROOT / "deploy/runbooks/README.md").read_text()
    listed = dict(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (.+?) \|", table, re.MULTILINE))
    assert set(listed) == {page.stem for page in PAGES}
    for alert in ALERTS:
        assert alert["labels"]["severity"] in listed[alert["alert"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda each: each.stem)
def test_a_page_says_what_it_means_what_to_look_at_how_to_mend_it_and_when_to_escalate(
    page: Path,
) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    places = [text.index(f"**{word}") for word in ("Means.", "Look at.", "Mend.", "Escalate")]
    assert places == sorted(places)
    assert any(command.page == page.stem for command in COMMANDS)
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (page.parent / target).is_file(), target


OURS = [command for command in COMMANDS if command.words[0] == "anabranch"]


@pytest.mark.parametrize("command", OURS, ids=lambda each: f"{each.page}: {each.line}")
def test_a_command_of_a_page_is_one_that_the_command_line_takes(command: Command) -> None:
    """Parsed by the command line itself, help and all, but not run."""
    name, *words = command.words
    found = typer.main.get_command(app)
    context = found.make_context(name, list(words))
    while isinstance(found, typer.core.TyperGroup):
        name, *words = words
        assert name in found.commands, f"no command {name}"
        found = found.commands[name]
        context = found.make_context(name, list(words), parent=context)
        assert found.get_help(context)


def test_commands_of_others_are_few_and_those_that_name_files_name_real_ones() -> None:
    others = [command for command in COMMANDS if command not in OURS]
    assert {command.words[0] for command in others} <= {
        "curl", "head", "jq", "kafka-consumer-groups.sh", "kafka-topics.sh", "pgrep", "promtool",
        "sort", "tail", "uniq",
    }  # fmt: skip
    for command in others:
        if command.words[0] == "promtool":
            assert (ROOT / command.words[-1]).is_file()


def test_the_latency_objective_is_a_bound_of_the_histogram() -> None:
    asked = set(re.findall(r'decision_seconds_bucket\{le="([^"]+)"\}', str(GROUPS)))
    assert len(asked) == 1, "one objective in all windows"
    metrics = Metrics()
    metrics.decision_seconds.labels("any").observe(0.1)
    bounds = {
        sample.labels["le"]
        for metric in metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "anabranch_event_to_decision_seconds_bucket"
    }
    assert asked <= bounds
