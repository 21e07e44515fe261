"""A training's report as one self-contained HTML page: nothing in it is loaded from elsewhere."""

from __future__ import annotations

from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from models.report.report import COMPOSED, TrainingReport
from topics.errors import MissingExtra

_TEMPLATE = Path(__file__).with_name("page.html.j2")


def check_can_render() -> None:
    """Raise MissingExtra when what draws the page is not installed."""
    for needed in ("jinja2", "matplotlib"):
        if find_spec(needed) is None:
            raise MissingExtra("a report page", "report")


def report_page(report: TrainingReport, made_at: datetime) -> str:
    """The page about *report*. Raises MissingExtra."""
    check_can_render()
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from models.report.report_plots import ranking_plots, reliability_plots

    held_out = report.held_out
    share, curves = held_out.positives / held_out.rows, held_out.curves
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(figure=_figure, signed=_signed, percent=_percent, loss=_loss)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
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


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.5f}"


def _signed(value: float, digits: int = 4) -> str:
    return f"{value:+z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"
