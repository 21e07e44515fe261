"""`anabranch deploy prometheus`: rules and alerts with links, and what Prometheus begins with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from agents.commands.terminal import stderr

_URL = re.compile(r"https?://[^\s\"'#]+")


def _url(value: str | None) -> str | None:
    if value is not None and not _URL.fullmatch(value):
        raise typer.BadParameter(f"{value!r} is no address: http://… or https://…")
    return value


def prometheus(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", file_okay=False, help="Write here; made if needed."
        ),
    ] = Path("prometheus"),
    grafana_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            callback=_url,
            help="Where people open Grafana: alerts link to its dashboards, and to the runbooks "
            "there. [default: http://127.0.0.1:3000, as in Compose]",
        ),
    ] = None,
    runbooks_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            callback=_url,
            help="Where else the runbooks are read: a folder with a page ALERT.md for each alert.",
        ),
    ] = None,
) -> None:
    """Write Prometheus' rules and alerts, with links that lead to your Grafana and runbooks.

    rules.yml is written anew each time. prometheus.yml (what is scraped), alertmanager.yml (who is
    told: fill in its receiver) and kafka-jmx.yml (what a broker's JMX exporter tells) are written
    once, and then yours. None of them names a pipeline: they hold for all.

    Examples:
      anabranch deploy prometheus -o prometheus --grafana-url https://grafana.example.org

      anabranch deploy prometheus -o prometheus --runbooks-url https://wiki.example.org/runbooks
    """  # fmt: skip
    from agents.manifests.alerts import GRAFANA_URL, PROMETHEUS_FOLDER, alert_rules

    output.mkdir(parents=True, exist_ok=True)
    (output / "rules.yml").write_text(alert_rules(grafana_url or GRAFANA_URL, runbooks_url))
    written = ["rules.yml"]
    for name in ("prometheus.yml", "alertmanager.yml", "kafka-jmx.yml"):
        if not (output / name).exists():
            (output / name).write_text((PROMETHEUS_FOLDER / name).read_text())
            written.append(name)
    stderr.print(f"{', '.join(written)} in {output}", highlight=False, soft_wrap=True)
