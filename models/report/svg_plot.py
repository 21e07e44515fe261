"""How plots of pages look, and a plot as SVG to stand in one; equal plots give equal bytes."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: smaller, and found by a search in the page
    "svg.hashsalt": "anabranch",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a94a0",
    "axes.labelcolor": "#44505c",
    "xtick.color": "#44505c",
    "ytick.color": "#44505c",
    "grid.color": "#e4e8ec",
    "grid.linewidth": 0.8,
}


def svg_of(figure: Figure) -> str:
    """The figure as an SVG element."""
    target = io.StringIO()
    figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    written = target.getvalue()
    return written[written.index("<svg") :]
