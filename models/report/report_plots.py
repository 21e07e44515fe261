"""The plots of a training's report, as SVG to stand in a page; equal reports give equal bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from models.report.quality import Bin, Curves
from models.report.svg_plot import STYLE, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COMPOSED = "#12263f"
_COLOURS = ("#0f7fb8", "#d1682b", "#2c9a6e", "#a04fa8", "#b39424", "#c0415f", "#5c6bc0", "#6d7a84")
_LOWEST = 5e-4
"""Where the axes of reliability begin when positives are rare, so that both are logarithms."""
_RARE = 0.15


def ranking_plots(curves: Mapping[str, Curves], composed: str, positives: float) -> str:
    """ROC and precision against recall, side by side; *composed* drawn above the stages."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.2, 3.9), layout="constrained")
        roc, precision = figure.subplots(1, 2)
        for name, colour, strong in _drawn(curves, composed):
            looks: Any = {"color": colour, "lw": 2.2 if strong else 1.3, "zorder": 2 + strong}
            roc.plot(*_columns(curves[name].roc), label=name, **looks)
            recall = curves[name].precision_recall
            precision.plot(*_columns(recall), drawstyle="steps-post", **looks)
        roc.plot([0, 1], [0, 1], color="#b8c0c8", lw=1, ls=(0, (4, 3)))
        precision.axhline(positives, color="#b8c0c8", lw=1, ls=(0, (4, 3)))
        _named(roc, "false positive rate", "true positive rate")
        _named(precision, "recall", "precision")
        for axes in (roc, precision):
            axes.set(xlim=(0, 1), ylim=(0, 1.01))
        figure.legend(loc="outside lower center", ncols=min(len(curves), 6), frameon=False)
        return svg_of(figure)


def reliability_plots(curves: Mapping[str, Curves], composed: str, positives: float) -> str:
    """One small plot a stage: the share that came true against what the signal said."""
    rare = positives < _RARE
    names = list(curves)
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.07 * columns, 2.75 * rows), layout="constrained")
        drawn = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        grid = list(drawn.flat)
        for axes, (name, colour, _) in zip(grid, _drawn(curves, composed), strict=False):
            _reliability(axes, curves[name].reliability, colour, rare=rare)
            axes.set_title(name, fontsize=9, color=colour, fontweight="bold")
        for axes in grid[len(names) :]:
            axes.set_visible(False)
        figure.supxlabel("what the signal says", fontsize=9, color="#44505c")
        figure.supylabel("share that came true", fontsize=9, color="#44505c")
        return svg_of(figure)


def _reliability(axes: Axes, bins: list[Bin], colour: str, *, rare: bool) -> None:
    low = _LOWEST if rare else 0.0
    signals = [max(bin_.said, low) for bin_ in bins]
    true = [max(bin_.positives / bin_.rows, low) for bin_ in bins]
    axes.plot([low, 1], [low, 1], color="#b8c0c8", lw=1, ls=(0, (4, 3)))
    axes.vlines(
        signals,
        [max(bin_.low, low) for bin_ in bins],
        [bin_.high for bin_ in bins],
        [colour],
        lw=1.4,
        alpha=0.45,
    )
    axes.plot(signals, true, color=colour, ls="", marker="o", ms=4)
    if rare:
        axes.set(xscale="log", yscale="log", xlim=(low * 0.9, 1.1), ylim=(low * 0.9, 1.1))
        ticks = [0.001, 0.01, 0.1, 1]
        axes.set_xticks(ticks, ["0.1 %", "1 %", "10 %", "100 %"])
        axes.set_yticks(ticks, ["0.1 %", "1 %", "10 %", "100 %"])
        axes.minorticks_off()
    else:
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.grid(visible=True)


def _drawn(curves: Mapping[str, Curves], composed: str) -> Iterator[tuple[str, str, bool]]:
    """Each name with its colour, and whether it is the composed score."""
    for place, name in enumerate(curves):
        strong = name == composed
        yield name, _COMPOSED if strong else _COLOURS[place % len(_COLOURS)], strong


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _named(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True)
