"""The queries of the generated dashboards, asked of a Prometheus."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "dashboards"


class QueryFailed(Exception):
    """Prometheus did not answer a query, or refused it."""

    def __init__(self, expr: str, cause: str) -> None:
        super().__init__(f"{expr}\nis no query that Prometheus answers: {cause}")


class Target(NamedTuple):
    """One query of one panel."""

    dashboard: str
    panel: Mapping[str, Any]
    expr: str
    legend: str

    @property
    def name(self) -> str:
        """Where it is, for people."""
        return f"{self.dashboard}: {self.panel['title']} ({self.panel['id']}): {self.legend}"


class Series(NamedTuple):
    """One series of an answer: its labels, seconds since 1970, and what it was then."""

    labels: Mapping[str, str]
    times: list[float]
    values: list[float]


def dashboards() -> dict[str, dict[str, Any]]:
    """The committed dashboards by the names of their files."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def targets() -> Iterator[Target]:
    """Every query of every panel, and of every annotation."""
    for name, content in dashboards().items():
        for mark in content.get("annotations", {}).get("list", ()):
            about = {"title": mark["name"], "id": "annotation", "type": "annotation"}
            yield Target(name, about, mark["expr"], mark["titleFormat"])
        for panel in content["panels"]:
            for query in panel.get("targets", ()):
                yield Target(name, panel, query["expr"], query.get("legendFormat", ""))


def filled(expr: str, *, interval: str, pipeline: str = ".+", component: str = ".+") -> str:
    """The query as Grafana sends it: with its variables replaced; everything is chosen."""
    for name, value in (
        ("$__rate_interval", interval), ("$pipeline", pipeline), ("$component", component),
    ):  # fmt: skip
        expr = expr.replace(name, value)
    return expr


def over_time(url: str, expr: str, start: float, end: float, step: float) -> list[Series]:
    """The answer of Prometheus at *url* to a range query. Raises QueryFailed."""
    asked = urllib.parse.urlencode({"query": expr, "start": start, "end": end, "step": step})
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query_range?{asked}", timeout=30) as answer:  # noqa: S310
            response = json.load(answer)
    except urllib.error.HTTPError as exc:
        raise QueryFailed(expr, exc.read().decode()) from exc
    except OSError as exc:
        raise QueryFailed(expr, str(exc)) from exc
    return [
        Series(
            series["metric"],
            [float(at) for at, _ in series["values"]],
            [float(value) for _, value in series["values"]],
        )
        for series in response["data"]["result"]
    ]
