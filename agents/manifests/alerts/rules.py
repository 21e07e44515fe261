"""Recording rules and alerts, with links that lead somewhere from wherever an alert is read.

The committed rules link to Grafana as the Compose stack has it; elsewhere its address, and where
the runbooks are read, are settings.
"""

from __future__ import annotations

import re
from pathlib import Path

from agents.manifests.alerts.runbooks import runbook_path

FOLDER = Path(__file__).parents[3] / "deploy" / "prometheus"
GRAFANA_URL = "http://127.0.0.1:3000"
"""Where the Compose stack shows it."""

_ALERT = re.compile(r"^ *- alert: (\w+)$")
_RUNBOOK = re.compile(r"^( *runbook_url:) .*$")
_DASHBOARD = re.compile(r"^( *dashboard:) .*(/d/anabranch-\w+)$")


def alert_rules(grafana_url: str = GRAFANA_URL, runbooks_url: str | None = None) -> str:
    """The rules as Prometheus reads them, comments and all.

    Dashboards are those of the Grafana at *grafana_url*; so are runbooks, unless *runbooks_url* is
    a folder that has them as `<alert>.md`.
    """
    return linked((FOLDER / "rules.yml").read_text(), grafana_url, runbooks_url)


def linked(rules: str, grafana_url: str, runbooks_url: str | None = None) -> str:
    """The text of *rules* with links to these places instead of its own, see `alert_rules`."""
    grafana = grafana_url.rstrip("/")

    def runbook(alert: str) -> str:
        if runbooks_url is None:
            return f"{grafana}{runbook_path(alert)}"
        return f"{runbooks_url.rstrip('/')}/{alert}.md"

    alert, lines = "", []
    for line in rules.splitlines():
        if named := _ALERT.match(line):
            alert = named[1]
        if at := _RUNBOOK.match(line):
            lines.append(f"{at[1]} {runbook(alert)}")
        elif at := _DASHBOARD.match(line):
            lines.append(f"{at[1]} {grafana}{at[2]}")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"
