"""What every dashboard has around its panels: variables, links to the others, alerts as marks."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as schema

from deploy.grafana.panels import SOURCE, Panel

Rows = Sequence[tuple[str, Sequence[Panel]]]
"""Headings, each with the panels below it."""

_LAG = "anabranch_consumer_lag_records"
"""The one metric that every component of every worker has from its start."""


def framed(
    title: str, uid: str, description: str, rows: Rows, *, component: bool
) -> dashboard.Dashboard:
    """A dashboard of *rows*, for the pipelines (and, if asked for, components) that are chosen."""
    board = dashboard.Dashboard(f"Anabranch: {title}").uid(uid).description(description)
    board = board.tags(["anabranch"]).readonly().refresh("10s").time("now-30m", "now")
    board = board.timezone("browser").tooltip(schema.DashboardCursorSync.CROSSHAIR)
    board = board.with_variable(
        dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    )
    board = board.with_variable(_variable("pipeline", f"label_values({_LAG}, pipeline)"))
    if component:
        query = f'label_values({_LAG}{{pipeline=~"$pipeline"}}, component)'
        board = board.with_variable(_variable("component", query))
    board = board.link(
        dashboard.DashboardLink("Anabranch")
        .type(schema.DashboardLinkType.DASHBOARDS)
        .tags(["anabranch"])
        .include_vars(True)
        .keep_time(True)
    )
    number = 1
    for heading, panels in rows:
        board = board.with_row(dashboard.Row(heading).id(number))
        for place, panel in enumerate(panels, start=number + 1):
            board = board.with_panel(_numbered(panel, place))
        number += len(panels) + 1
    return board


def _numbered(panel: Panel, number: int) -> Panel:
    panel.id(number)  # type: ignore[attr-defined]  # every panel's builder has it, their base has not
    return panel


def _variable(name: str, query: str) -> dashboard.QueryVariable:
    variable = dashboard.QueryVariable(name).label(name.capitalize()).datasource(SOURCE)
    variable = variable.query({"query": query, "refId": name, "qryType": 1})
    variable = variable.multi(True).include_all(True).all_value(".+")
    variable = variable.current(schema.VariableOption(text="All", value="$__all", selected=True))
    return variable.refresh(schema.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(
        schema.VariableSort.ALPHABETICAL_ASC
    )
