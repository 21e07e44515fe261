"""The few kinds of panel that the dashboards are made of, and what they have in common.

Built with Grafana's foundation SDK: its builders know every field of the dashboard schema, so that
a misspelt one is an error here and not a panel that stays empty there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as forms
from grafana_foundation_sdk.models import dashboard as schema
from grafana_foundation_sdk.models import heatmap as heat_forms
from grafana_foundation_sdk.models import prometheus as query_forms

from agents.manifests.alerts import runbook_path

SOURCE = schema.DataSourceRef(type_val="prometheus", uid="${datasource}")
EVENTS, ROWS, RECORDS, SECONDS, SHARE, COUNT, BYTES, REQUESTS = (
    "eps", "rowsps", "suffix: records", "s", "percentunit", "short", "bytes", "reqps",
)  # fmt: skip
"""Grafana's names of units: events/s, rows/s, and so on."""

Panel = Builder[schema.Panel]


class Query(NamedTuple):
    """A PromQL expression, and what its series are called: labels in double braces."""

    expr: str
    legend: str = ""


class Text(NamedTuple):
    """What a panel is called, what it says and what to do about it, and who says more."""

    title: str
    description: str
    runbook: str | None = None
    """Name of a page in deploy/runbooks."""


def lines(
    text: Text, unit: str, *queries: Query, width: int = 12, limits: Sequence[float] = (),
    stacked: bool = False,
) -> Panel:  # fmt: skip
    """Curves over time; *limits* are drawn as lines that it should stay below."""
    panel = timeseries.Panel().title(text.title).description(text.description).datasource(SOURCE)
    panel = panel.height(8).span(width).unit(unit).min(0).links(_links(text))
    panel = panel.fill_opacity(30 if stacked else 8).show_points(forms.VisibilityMode.NEVER)
    panel = panel.legend(
        common.VizLegendOptions()
        .display_mode(forms.LegendDisplayMode.LIST)
        .placement(forms.LegendPlacement.BOTTOM)
        .show_legend(True)
    ).tooltip(common.VizTooltipOptions().mode(forms.TooltipDisplayMode.MULTI))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(forms.StackingMode.NORMAL))
    if limits:
        panel = panel.thresholds(_steps(limits)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(forms.GraphThresholdsStyleMode.DASHED)
        )
    for number, query in enumerate(queries):
        panel = panel.with_target(_target(query, number))
    return panel


def number(
    text: Text, unit: str, query: Query, *, limits: Sequence[float] = (), width: int = 4,
) -> Panel:  # fmt: skip
    """The newest value, large: green, above the first of *limits* orange, above the last red."""
    panel = stat.Panel().title(text.title).description(text.description).datasource(SOURCE)
    panel = panel.height(4).span(width).unit(unit).links(_links(text)).thresholds(_steps(limits))
    panel = panel.color_mode(forms.BigValueColorMode.VALUE)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    return panel.with_target(_target(query, 0))


def heat(text: Text, bucket: str, *, width: int = 12, unit: str = SECONDS) -> Panel:
    """Where the observations of a histogram are, over time; *bucket* is its rate by `le`."""
    panel = heatmap.Panel().title(text.title).description(text.description).datasource(SOURCE)
    panel = panel.height(8).span(width).links(_links(text)).calculate(False)
    panel = panel.y_axis(heatmap.YAxisConfig().unit(unit))
    panel = panel.color(
        heatmap.HeatmapColorOptions()
        .mode(heat_forms.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .steps(64)
    )
    target = _target(Query(bucket, "{{le}}"), 0).format(query_forms.PromQueryFormat.HEATMAP)
    return panel.with_target(target)


def listing(text: Text, query: Query, hidden: Sequence[str] = (), *, width: int = 12) -> Panel:
    """A table: a row for each series as it is now, a column for each label but *hidden*."""
    panel = table.Panel().title(text.title).description(text.description).datasource(SOURCE)
    panel = panel.height(8).span(width).links(_links(text))
    left_out = dict.fromkeys(("Time", "Value", "__name__", "job", *hidden), True)
    panel = panel.with_transformation(
        schema.DataTransformerConfig(
            id_val="organize", options={"excludeByName": left_out, "renameByName": {}}
        )
    )
    target = _target(query, 0).instant().format(query_forms.PromQueryFormat.TABLE)
    return panel.with_target(target)


def _target(query: Query, number: int) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id("ABCDEFGH"[number]).range()
    return target.legend_format(query.legend).datasource(SOURCE)


def _steps(limits: Sequence[float]) -> dashboard.ThresholdsConfig:
    colours = ["green", *(["orange"] * (len(limits) - 1)), *(["red"] if limits else [])]
    bounds = (None, *limits)
    steps = [schema.Threshold(value=at, color=c) for at, c in zip(bounds, colours, strict=True)]
    return dashboard.ThresholdsConfig().mode(schema.ThresholdsMode.ABSOLUTE).steps(steps)


def _links(text: Text) -> list[Builder[schema.DashboardLink]]:
    if text.runbook is None:
        return []
    link = dashboard.DashboardLink(f"What to do: {text.runbook}").url(runbook_path(text.runbook))
    return [link.type(schema.DashboardLinkType.LINK).target_blank(True)]
