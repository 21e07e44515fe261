"""The report of a what-if as one self-contained HTML page, with plots."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from agents.replay.what_if_report import BINS, ScoreShift, WhatIfReport
from models.report.html_page import check_can_render, rendered

_TEMPLATE = Path(__file__).with_name("what_if_page.html.j2")
_BEFORE, _AFTER = "#8a94a0", "#0f7fb8"


def what_if_page(report: WhatIfReport, made_at: datetime) -> str:
    """The page about *report*. Raises MissingExtra."""
    check_can_render()
    from markupsafe import Markup

    shift = report.scores
    moved = shift is not None and shift.largest_absolute > 0
    events = {(flow.before, flow.after): flow for flow in report.flows}
    targets = [*report.decisions]
    if any(flow.after == report.no_quorum for flow in report.flows):
        targets.append(report.no_quorum)
    return rendered(
        _TEMPLATE,
        report=report,
        made_at=f"{made_at:%Y-%m-%d %H:%M} UTC",
        targets=targets,
        flow_of=lambda before, after: events.get((before, after)),
        changed=[flow for flow in report.flows if flow.before != flow.after],
        most=max((flow.events for flow in report.flows if flow.before != flow.after), default=1),
        scores=Markup(score_plot(shift)) if shift is not None else "",  # noqa: S704 - drawn here
        moved=moved,
    )


def score_plot(shift: ScoreShift) -> str:
    """How many events have which score before and after, and how far scores move."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from models.report.svg_plot import STYLE, svg_of

    edges = [at / BINS for at in range(BINS + 1)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.4), layout="constrained")
        scores, moves = figure.subplots(1, 2, width_ratios=(3, 2))
        scores.stairs(shift.before, edges, color=_BEFORE, fill=True, alpha=0.35, label="before")
        scores.stairs(shift.after, edges, color=_AFTER, lw=1.6, label="after")
        scores.set_yscale("symlog", linthresh=1)
        scores.set(xlim=(0, 1), xlabel="score", ylabel="events (logarithmic)")
        shares = [100 * float(at) for at in shift.quantiles]
        moves.plot(shares, [*shift.quantiles.values()], color=_AFTER, marker="o", ms=3.5, lw=1.3)
        moves.axhline(0, color="#b8c0c8", lw=1)
        moves.set(xlim=(0, 100), xlabel="% of events", ylabel="score moves by less than")
        for axes in (scores, moves):
            axes.grid(visible=True)
        scores.legend(frameon=False)
        return svg_of(figure)
