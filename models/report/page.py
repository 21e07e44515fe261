"""A training's report as one self-contained HTML page: nothing in it is loaded from elsewhere."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from models.report.html_page import check_can_render, rendered
from models.report.training_report import COMPOSED, TrainingReport

_TEMPLATE = Path(__file__).with_name("page.html.j2")


def report_page(report: TrainingReport, made_at: datetime) -> str:
    """The page about *report*. Raises MissingExtra."""
    check_can_render()
    from markupsafe import Markup

    from models.report.report_plots import ranking_plots, reliability_plots

    held_out = report.held_out
    share, curves = held_out.positives / held_out.rows, held_out.curves
    return rendered(
        _TEMPLATE,
        report=report,
        held_out=held_out,
        made_at=f"{made_at:%Y-%m-%d %H:%M} UTC",
        share=share,
        stages=_stages(report),
        added=_added(report),
        ranking=Markup(ranking_plots(curves, COMPOSED, share)) if curves else "",  # noqa: S704 - drawn here
        reliability=Markup(reliability_plots(curves, COMPOSED, share)) if curves else "",  # noqa: S704
    )


def _stages(report: TrainingReport) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "version": part.version,
            "weight": report.weights.get(name),
            "quality": part,
        }
        for name, part in report.components.items()
    ]


def _added(report: TrainingReport) -> list[dict[str, Any]]:
    """What each stage adds, the most first, and whether that could be chance."""
    parts = sorted(
        report.held_out.left_out.items(), key=lambda item: item[1].log_loss, reverse=True
    )
    most = max((abs(part.log_loss) for _, part in parts), default=0.0) or 1.0
    return [
        {
            "name": name,
            "lost": part,
            "width": round(100 * max(part.log_loss, 0.0) / most, 1),
            "clear": abs(part.log_loss) > 2 * part.log_loss_error,
        }
        for name, part in parts
    ]
