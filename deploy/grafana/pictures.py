"""Draw the dashboards' answers as SVG, without Grafana.

    python -m deploy.grafana.pictures --prometheus http://127.0.0.1:9090 --minutes 5

The panels, their places, queries and legends are those of the generated dashboards; the curves are
what that Prometheus answers. The look is matplotlib's, not Grafana's.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from deploy.grafana.queries import Series, dashboards, filled, over_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = Path(__file__).parent / "pictures"
_CELL = (0.62, 0.34)
"""Inches of one grid unit."""
_LEGENDS = 14
"""More would cover the curves; Grafana's can be scrolled."""
_UNITS = {
    "eps": "events/s", "rowsps": "rows/s", "suffix: records": "records", "s": "s",
    "percentunit": "of 1", "short": "", "bytes": "bytes",
}  # fmt: skip


class Span(NamedTuple):
    """What is asked: a Prometheus, and a time in seconds since 1970."""

    url: str
    start: float
    end: float
    interval: str

    def ask(self, query: Mapping[str, Any]) -> list[Series]:
        """The answer to one query of a panel."""
        step = max(1.0, (self.end - self.start) / 300)
        expr = filled(query["expr"], interval=self.interval)
        return over_time(self.url, expr, self.start, self.end, step)


def draw(content: Mapping[str, Any], span: Span, path: Path) -> Path:
    """Write the picture of a dashboard to *path*, and return that."""
    panels = [panel for panel in content["panels"] if panel["type"] not in ("row", "text")]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = Figure(figsize=(24 * _CELL[0], height * _CELL[1]))
    for panel in content["panels"]:
        at = panel["gridPos"]
        top = 1 - at["y"] / height
        if panel["type"] == "row":
            figure.text(0.01, top - 0.6 / height, panel["title"], weight="bold", va="center")
            continue
        left, bottom = (at["x"] + 1.3) / 24, top - (at["h"] - 1.4) / height
        axes = figure.add_axes((left, bottom, (at["w"] - 1.7) / 24, (at["h"] - 2.6) / height))
        axes.set_title(panel["title"], fontsize=8, loc="left")
        axes.tick_params(labelsize=6)
        _KINDS[panel["type"]](axes, panel, span)
    figure.savefig(path, metadata={"Date": None})
    return path


def _curves(axes: Axes, panel: Mapping[str, Any], span: Span) -> None:
    for query in panel["targets"]:
        for series in span.ask(query):
            label = _called(query["legendFormat"], series.labels)
            axes.plot(_dates(series.times), series.values, linewidth=1, label=label)  # type: ignore[arg-type]  # dates
    for step in panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", ()):
        if step["value"] and panel["fieldConfig"]["defaults"]["custom"].get("thresholdsStyle"):
            axes.axhline(step["value"], color=step["color"], linestyle="--", linewidth=0.6)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.05)  # a steady curve would lie on the frame
    axes.set_ylabel(_UNITS[panel["fieldConfig"]["defaults"]["unit"]], fontsize=6)
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        shown = handles[:_LEGENDS]
        axes.legend(
            handles=shown, fontsize=4.5, loc="upper left", framealpha=0.6,
            ncols=1 + len(shown) // 7,
        )  # fmt: skip
    _timed(axes, span)


def _value(axes: Axes, panel: Mapping[str, Any], span: Span) -> None:
    series = span.ask(panel["targets"][0])
    newest = next((v for s in series for v in reversed(s.values) if math.isfinite(v)), None)
    unit = panel["fieldConfig"]["defaults"]["unit"]
    value = "no data" if newest is None else f"{newest:,.3g} {_UNITS[unit]}"
    axes.axis("off")
    axes.text(0.5, 0.4, value, fontsize=13, ha="center", va="center")


def _heat(axes: Axes, panel: Mapping[str, Any], span: Span) -> None:
    """Cumulative buckets become cells: how many observations a second lie in each."""
    buckets = sorted(span.ask(panel["targets"][0]), key=lambda series: float(series.labels["le"]))
    if not buckets:
        axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", va="center")
        return
    cells = [
        [max(0.0, here - below) for here, below in zip(s.values, lower, strict=False)]
        for s, lower in zip(buckets, [[0.0] * len(buckets[0].values), *(s.values for s in buckets)],
                            strict=False)
    ]  # fmt: skip
    axes.pcolormesh(_dates(buckets[0].times), range(len(cells)), cells, cmap="Oranges",  # type: ignore[arg-type]  # dates
                    shading="nearest", rasterized=True)  # fmt: skip
    labels = [series.labels["le"] for series in buckets]
    axes.set_yticks(range(len(labels)), labels, fontsize=5)
    axes.set_ylabel(f"at most {_UNITS[panel['options']['yAxis']['unit']]}".strip(), fontsize=6)
    _timed(axes, span)


def _rows(axes: Axes, panel: Mapping[str, Any], span: Span) -> None:
    """The newest labels, but those that the panel leaves out."""
    out = panel["transformations"][0]["options"]["excludeByName"]
    labels_of_series = [s.labels for s in span.ask(panel["targets"][0])]
    columns = sorted({name for labels in labels_of_series for name in labels if name not in out})
    cells = [[labels.get(name, "") for name in columns] for labels in labels_of_series]
    axes.axis("off")
    if cells:
        table = axes.table(cellText=cells, colLabels=columns, loc="upper center", cellLoc="left")
        table.auto_set_font_size(value=False)
        table.set_fontsize(5)
        table.auto_set_column_width(list(range(len(columns))))


_KINDS = {"timeseries": _curves, "stat": _value, "heatmap": _heat, "table": _rows}


def _called(legend: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return legend


def _dates(times: Sequence[float]) -> list[datetime]:
    return [datetime.fromtimestamp(at, UTC) for at in times]


def _timed(axes: Axes, span: Span) -> None:
    start, end = _dates([span.start, span.end])
    axes.set_xlim(start, end)  # type: ignore[arg-type]  # dates
    locator = AutoDateLocator(maxticks=6)  # type: ignore[no-untyped-call]  # matplotlib's
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.get_offset_text().set_fontsize(6)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def main() -> None:
    """Draw all dashboards but the runbooks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    parser.add_argument("--minutes", type=float, default=30.0, help="so many [30]")
    parser.add_argument("--interval", default="20s", help="of rates, as Grafana's [20s]")
    parser.add_argument("--until", type=float, default=time.time(), help="Unix time [now]")
    given = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    mpl.rcParams |= {"svg.hashsalt": "anabranch", "svg.fonttype": "none"}
    start = given.until - given.minutes * 60
    span = Span(given.prometheus, start, given.until, given.interval)
    for name, content in dashboards().items():
        if name != "runbooks":
            print(f"wrote {draw(content, span, FOLDER / f'{name}.svg')}")  # noqa: T201  # a command's answer


if __name__ == "__main__":
    main()
