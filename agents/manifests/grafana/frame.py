"""What every dashboard has around its panels: variables, links to the others, marks of changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as schema

from agents.manifests.grafana.panels import SOURCE, Panel
from agents.manifests.grafana.scope import Scope

Rows = Sequence[tuple[str, Sequence[Panel]]]
"""Headings, each with the panels below it."""

_LAG = "anabranch_consumer_lag_records"
"""The one metric that every component of every worker has from its start."""
_CHOSEN = 'pipeline=~"$pipeline"'
_JOB = 'job=~".*anabranch.*"'


def framed(
    scope: Scope, name: str, title: str, description: str, rows: Rows, *, component: bool
) -> dashboard.Dashboard:
    """A dashboard of *rows*, for the pipelines (and, if asked for, components) that are chosen."""
    heading = "Anabranch" if scope.pipeline is None else scope.pipeline.name
    board = dashboard.Dashboard(f"{heading}: {title}").uid(scope.uid(name)).description(description)
    board = board.tags(list(dict.fromkeys(["anabranch", scope.name]))).readonly()
    board = board.refresh("10s").time("now-30m", "now").timezone("browser")
    board = board.tooltip(schema.DashboardCursorSync.CROSSHAIR)
    for variable in _variables(scope, component=component):
        board = board.with_variable(variable)
    for mark in _marks():
        board = board.annotation(_Marking(mark))
    board = board.link(
        dashboard.DashboardLink(heading)
        .type(schema.DashboardLinkType.DASHBOARDS)
        .tags([scope.name])
        .include_vars(True)
        .keep_time(True)
    )
    number = 1
    for row, panels in rows:
        board = board.with_row(dashboard.Row(row).id(number))
        for place, panel in enumerate(panels, start=number + 1):
            board = board.with_panel(_numbered(panel, place))
        number += len(panels) + 1
    return board


def _numbered(panel: Panel, number: int) -> Panel:
    panel.id(number)  # type: ignore[attr-defined]  # every panel's builder has it, their base has not
    return panel


# -- what is chosen


def _variables(scope: Scope, *, component: bool) -> Iterator[Builder[schema.VariableModel]]:
    yield dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    if scope.pipeline is None:
        yield _queried("pipeline", f"label_values({_LAG}, pipeline)")
    else:
        yield dashboard.ConstantVariable("pipeline").value(scope.pipeline.name)
    if component and scope.components:
        names = ",".join(scope.components)
        chosen = dashboard.CustomVariable("component").label("Component").values(names)
        yield chosen.multi(True).include_all(True).all_value(".+").current(_everything())
    elif component:
        yield _queried("component", f"label_values({_LAG}{{{_CHOSEN}}}, component)")


def _queried(name: str, query: str) -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable(name).label(name.capitalize()).datasource(SOURCE)
    variable = variable.query({"query": query, "refId": name, "qryType": 1})
    variable = variable.multi(True).include_all(True).all_value(".+").current(_everything())
    return variable.refresh(schema.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(
        schema.VariableSort.ALPHABETICAL_ASC
    )


def _everything() -> schema.VariableOption:
    return schema.VariableOption(text="All", value="$__all", selected=True)


# -- what has changed, as marks over time


class _Mark(schema.AnnotationQuery):
    """An annotation by a Prometheus query; the SDK's knows the query, but not what marks say."""

    def __init__(self, name: str, color: str, expr: str, title: str) -> None:
        super().__init__(name=name, datasource=SOURCE, icon_color=color, expr=expr)
        self._title = title

    def to_json(self) -> dict[str, object]:
        """The annotation as Grafana's Prometheus source reads it."""
        return {**super().to_json(), "titleFormat": self._title, "step": "15s"}


class _Marking(Builder[schema.AnnotationQuery]):
    """A mark as the SDK takes it."""

    def __init__(self, mark: _Mark) -> None:
        self._mark = mark

    def build(self) -> schema.AnnotationQuery:
        """The annotation."""
        return self._mark


def _marks() -> Iterator[_Mark]:
    """Models and weights put into service or refused, policies, starts of workers, and alerts."""
    by = "sum by (pipeline, component)"
    swapped = f'{by} (increase(anabranch_swaps_total{{{_CHOSEN},result="swapped"}}[1m])) > 0'
    refused = f'{by} (increase(anabranch_swaps_total{{{_CHOSEN},result="refused"}}[1m])) > 0'
    weights = f"max by (pipeline) (changes(anabranch_weights_version{{{_CHOSEN}}}[1m])) > 0"
    policy = f"max by (pipeline) (changes(anabranch_policy_version{{{_CHOSEN}}}[1m])) > 0"
    started = f"time() - process_start_time_seconds{{{_JOB}}} < 60"
    alerts = f'ALERTS{{alertname=~"Anabranch.*",alertstate="firing",{_CHOSEN}}}'
    yield _Mark("Promoted", "green", swapped, "{{pipeline}}/{{component}}: swapped")
    yield _Mark("Refused", "red", refused, "{{pipeline}}/{{component}}: refused")
    yield _Mark("Weights", "blue", weights, "{{pipeline}}: other weights")
    yield _Mark("Policy", "purple", policy, "{{pipeline}}: another policy")
    yield _Mark("Started", "yellow", started, "{{instance}} started")
    yield _Mark("Alerts", "orange", alerts, "{{alertname}}")
