"""The variants of a pipeline's models as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.registry import ComponentVariants, OptimiseReport, Variant
from models.variants.errors import NoDrawing
from topics.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CHOSEN, _ABLE, _RULED_OUT, _INK = "#0b6e99", "#8fb8ca", "#d9d9d9", "#333333"
_WIDTH_IN, _ROW_IN, _HEAD_IN = 8.0, 0.3, 0.9


def check_drawable(path: Path) -> None:
    """Raise MissingExtra without matplotlib, NoDrawing for a folder or suffix that will not do.

    Before minutes of measuring, not after them.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingExtra("a plot", "report") from exc
    known = Figure().canvas.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in known:
        raise NoDrawing(str(path), f"its suffix is none of {', '.join(sorted(known))}")
    if not path.absolute().parent.is_dir():
        raise NoDrawing(str(path), "its folder does not exist")


def draw(report: OptimiseReport, path: Path) -> None:
    """Time against fp32, one panel a component, into *path*, which is drawable.

    Raises NoDrawing for a path that cannot be written.
    """
    from matplotlib.figure import Figure

    measured = [
        [variant for variant in component.variants if variant.speed is not None]
        for component in report.components
    ]
    heights = [_HEAD_IN + _ROW_IN * len(rows) for rows in measured]
    figure = Figure(figsize=(_WIDTH_IN, sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
    for axes, component, rows in zip(panels[:, 0], report.components, measured, strict=True):
        _panel(axes, component, rows)
    panels[-1, 0].set_xlabel(
        "processor time against fp32 (line: 95 % interval); blue: chosen, pale: within "
        "tolerance, grey: ruled out"
    )
    panels[-1, 0].xaxis.label.set_size("small")
    try:
        figure.savefig(path)
    except OSError as exc:
        raise NoDrawing(str(path), exc.strerror or str(exc)) from exc


def _panel(axes: Axes, component: ComponentVariants, rows: list[Variant]) -> None:
    axes.set_title(f"{component.component}@{component.version}", loc="left", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    axes.axvline(1, color=_INK, linewidth=0.8)
    names = [row.name for row in rows]
    for place, row in enumerate(rows):
        if row.speed is None:
            continue
        chosen = row.name == component.chosen
        colour = _CHOSEN if chosen else _ABLE if row.eligible else _RULED_OUT
        axes.barh(row.name, row.speed.overall, color=colour)
        axes.plot([row.speed.low, row.speed.high], [place, place], color=_INK, linewidth=1.2)
        axes.text(
            row.speed.high + 0.02, place, f"{row.speed.overall:.2f}",
            va="center", fontsize="small", color=_INK,
        )  # fmt: skip
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, max([1.25, *(row.speed.high + 0.2 for row in rows if row.speed)]))
