"""The report of a pipeline as one self-contained HTML page: plots, and tables beside them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from agents.report.figures import PeriodFigures, PipelineFigures, QualityWindow
from models.report.html_page import check_can_render, rendered
from topics.pipeline import Policy

_TEMPLATE = Path(__file__).with_name("page.html.j2")
_ROWS = 12
"""Of the table beside a plot: so many periods, each of several bins where there are more."""
_WINDOWS = 60
"""Newest windows of quality in a table."""
_COMPOSED = "composed"


def figures_page(figures: PipelineFigures, policy: Policy, made_at: datetime) -> str:
    """The page about *figures*. Raises MissingExtra."""
    check_can_render()
    from markupsafe import Markup

    from agents.report import plots

    def drawn(svg: str) -> Markup:
        return Markup(svg)  # noqa: S704 - drawn here

    periods, names = figures.periods, [policy.otherwise, *policy.thresholds]
    names += [name for name in figures.decisions if name not in names]
    quality = shown_figure(figures.quality)
    has_scores = any(each.score_p50 is not None for each in periods)
    return rendered(
        _TEMPLATE,
        report=figures,
        policy=policy,
        names=names,
        made_at=f"{made_at:%Y-%m-%d %H:%M} UTC",
        short=short_time,
        span=bin_words(figures.bin_s),
        sampled=sampled(periods, _ROWS),
        traffic=drawn(plots.traffic_plot(periods, figures.bin_s, names)) if periods else "",
        shares=drawn(plots.shares_plot(periods, names[1:])) if periods and names[1:] else "",
        latency=drawn(plots.latency_plot(periods)) if figures.decided else "",
        scores=drawn(plots.score_plot(periods, policy.thresholds)) if has_scores else "",
        weights=drawn(plots.weights_plot(periods)) if has_scores else "",
        stages=list(dict.fromkeys(stage for each in periods for stage in each.weights)),
        has_cost=any("cost" in each.figures for each in figures.quality),
        composed_windows=_composed(figures.quality)[-_WINDOWS:],
        quality_name=quality,
        quality=drawn(plots.quality_plot(_composed(figures.quality), quality)) if quality else "",
        drift=drawn(plots.drift_plot(figures.drift_days)) if figures.drift_days else "",
    )


def shown_figure(windows: Sequence[QualityWindow]) -> str:
    """The figure of quality that is drawn; empty where there is none."""
    known = {name for each in _composed(windows) for name in each.figures}
    return next((name for name in ("average_precision", "auc", "brier") if name in known), "")


def _composed(windows: Sequence[QualityWindow]) -> list[QualityWindow]:
    return [each for each in windows if each.subject == _COMPOSED]


def sampled(periods: Sequence[PeriodFigures], most: int) -> list[PeriodFigures]:
    """At most so many of *periods*, from the first to the last, equally far apart."""
    if len(periods) <= most:
        return [*periods]
    return [periods[round(at * (len(periods) - 1) / (most - 1))] for at in range(most)]


def short_time(text: str | None) -> str:
    """A time as tables have it.

    >>> short_time("2026-01-31T12:05:09.120Z")
    '2026-01-31 12:05:09'
    """
    return "–" if text is None else text[:19].replace("T", " ")


def bin_words(seconds: float) -> str:
    """How long a bin is.

    >>> bin_words(8), bin_words(128), bin_words(7680)
    ('8 s', '2.13 min', '2.13 h')
    """
    if seconds < 60:
        return f"{seconds:g} s"
    if seconds < 3600:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 86_400 else f"{seconds / 86_400:.3g} d"
