"""The plots of a report, as SVG to stand in a page. Beside each, the page has a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from agents.report.figures import DriftDay, PeriodFigures, QualityWindow
from models.report.svg_plot import STYLE, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0f7fb8", "#d1682b", "#2c9a6e", "#a04fa8", "#b39424", "#c0415f", "#5c6bc0", "#6d7a84")
_LINES = ("-", "--", ":", "-.")
"""Beside colours, for those who do not tell these apart."""
_DEAD = "#8e1b1b"
_WIDTH, _HEIGHT = 9.2, 2.7
_MOST_SERIES = 8
_LEGEND_COLUMNS = 4


@contextmanager
def _plot(into: list[str]) -> Iterator[Axes]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
        axes = figure.subplots()
        axes.grid(visible=True)
        yield axes
        axes.margins(x=0.01)
        locator = AutoDateLocator(minticks=3, maxticks=9)  # type: ignore[no-untyped-call]  # matplotlib's
        shown = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]  # matplotlib's
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(shown)
        if axes.get_legend_handles_labels()[1]:
            figure.legend(loc="outside lower center", ncols=_LEGEND_COLUMNS, frameon=False)
        into.append(svg_of(figure))


def traffic_plot(periods: Sequence[PeriodFigures], bin_s: float, decisions: Sequence[str]) -> str:
    """Decisions a second by kind, one on the other, and dead letters."""
    drawn: list[str] = []
    with _plot(drawn) as axes:
        times: Any = [_time(each.start) for each in periods]
        rates = [[each.decisions.get(name, 0) / bin_s for each in periods] for name in decisions]
        axes.stackplot(times, rates, labels=decisions, colors=_COLOURS, step="post", alpha=0.8)
        if any(each.dead_letters for each in periods):
            dead = [each.dead_letters / bin_s for each in periods]
            axes.step(times, dead, where="post", color=_DEAD, lw=1.5, label="dead letters")
        axes.set_ylabel("a second")
        axes.set_ylim(bottom=0)
    return drawn[0]


def shares_plot(periods: Sequence[PeriodFigures], decisions: Sequence[str]) -> str:
    """The share of each decision that is not the usual one."""
    return _lines(
        periods,
        {name: lambda each, n=name: _share(each, n) for name in decisions},  # type: ignore[misc]  # the name is bound
        "% of decisions",
        first=1,  # the colours of the plot above
    )


def latency_plot(periods: Sequence[PeriodFigures]) -> str:
    """Quantiles of latency, on a logarithmic axis."""
    quantiles: dict[str, Callable[[PeriodFigures], float | None]] = {
        "half": lambda each: each.latency_p50_ms,
        "95 %": lambda each: each.latency_p95_ms,
        "99 %": lambda each: each.latency_p99_ms,
    }
    return _lines(periods, quantiles, "ms, within which so many are", log=True)


def score_plot(periods: Sequence[PeriodFigures], thresholds: Mapping[str, float]) -> str:
    """Where most scores are, and the thresholds."""
    drawn: list[str] = []
    with _plot(drawn) as axes:
        known = [each for each in periods if each.score_p50 is not None]
        times: Any = [_time(each.start) for each in known]
        low: Any = [each.score_p10 for each in known]
        high: Any = [each.score_p90 for each in known]
        axes.fill_between(times, low, high, color=_COLOURS[0], alpha=0.25, label="10 to 90 %")
        middle: Any = [each.score_p50 for each in known]
        axes.plot(times, middle, color=_COLOURS[0], lw=1.6, label="median")
        for place, (name, at) in enumerate(thresholds.items(), start=1):
            colour = _COLOURS[place % len(_COLOURS)]
            axes.axhline(at, color=colour, lw=1.2, ls="--", label=f"{name} from {at:g}")
        axes.set_ylabel("score")
        axes.set_ylim(bottom=0)
    return drawn[0]


def weights_plot(periods: Sequence[PeriodFigures]) -> str:
    """The mean weight of each stage."""
    stages = list(dict.fromkeys(name for each in periods for name in each.weights))
    return _lines(
        periods,
        {name: lambda each, n=name: each.weights.get(n) for name in stages},  # type: ignore[misc]  # the name is bound
        "weight α",
    )


def quality_plot(windows: Sequence[QualityWindow], figure: str) -> str:
    """One figure of matured and of estimated windows of one subject, with intervals."""
    drawn: list[str] = []
    with _plot(drawn) as axes:
        for place, state in enumerate(("matured", "estimated")):
            own = [each for each in windows if each.state == state and figure in each.figures]
            times: Any = [_time(each.since) for each in own]
            values = [each.figures[figure] for each in own]
            lows = [each.value - (each.value if each.low is None else each.low) for each in values]
            tops = [
                (each.value if each.high is None else each.high) - each.value for each in values
            ]
            axes.errorbar(
                times, [each.value for each in values], yerr=[lows, tops], fmt="os"[place],
                color=_COLOURS[place], ms=4, lw=1.2, capsize=2, label=state,
            )  # fmt: skip
        axes.set_ylabel(figure.replace("_", " "))
    return drawn[0]


def drift_plot(days: Sequence[DriftDay]) -> str:
    """How far the farthest series were from their references, as shares of what is ordinary."""
    farthest: dict[str, float] = {}
    for day in days:
        for name, psi in day.psi.items():
            farthest[name] = max(farthest.get(name, 0.0), psi / day.limits[name])
    names = sorted(farthest, key=lambda name: -farthest[name])[:_MOST_SERIES]
    drawn: list[str] = []
    with _plot(drawn) as axes:
        for place, name in enumerate(names):
            own = [day for day in days if name in day.psi]
            times: Any = [_time(day.at) for day in own]
            shares = [100 * day.psi[name] / day.limits[name] for day in own]
            axes.plot(times, shares, label=name, marker="o", ms=3, **_looks(place))
        axes.axhline(100, color=_DEAD, lw=1, ls=(0, (4, 3)))
        axes.set_ylabel("PSI, % of what is ordinary")
        axes.set_ylim(bottom=0)
    return drawn[0]


def _lines(
    periods: Sequence[PeriodFigures],
    series: Mapping[str, Callable[[PeriodFigures], float | None]],
    unit: str,
    *,
    log: bool = False,
    first: int = 0,
) -> str:
    drawn: list[str] = []
    with _plot(drawn) as axes:
        times: Any = [_time(each.start) for each in periods]
        for place, (name, value) in enumerate(series.items(), start=first):
            values: Any = [value(each) for each in periods]
            axes.plot(times, values, label=name, **_looks(place))
        axes.set_ylabel(unit)
        if log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
    return drawn[0]


def _looks(place: int) -> dict[str, Any]:
    line = _LINES[place // len(_COLOURS) % len(_LINES)] if place else "-"
    return {"color": _COLOURS[place % len(_COLOURS)], "ls": line, "lw": 1.5}


def _share(period: PeriodFigures, name: str) -> float | None:
    if not period.decided:
        return None
    return 100 * period.decisions.get(name, 0) / period.decided


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
