"""The results as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tests.benchmarks.contest import Entry
from tests.benchmarks.results import Results
from tests.benchmarks.w3 import Latency
from tests.benchmarks.w4 import Memory, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OURS, _OTHERS, _RUNS = "#0b6e99", "#b8c4cc", "#333333"


def drawn(results: Results, folder: Path) -> list[Path]:
    """Every picture that there are figures for, as SVG files in *folder*."""
    made = []
    for title, entries in results.contests.items():
        if any(entry.runs for entry in entries):
            path = folder / f"{title.lower().replace(' ', '-')}.svg"
            with _picture(path, title) as axes:
                _bars(axes, entries)
            made.append(path)
    if any(found.ms for found in results.latencies):
        with _picture(folder / "w3-latency.svg", "W3 latency, event to decision") as axes:
            _curves(axes, results.latencies)
        made.append(folder / "w3-latency.svg")
    if any(point.runs for point in results.points):
        with _picture(folder / "w4-growth.svg", "W4 CPU time as a pipeline grows") as axes:
            _lines(axes, results.points)
        made.append(folder / "w4-growth.svg")
    if results.memory is not None and results.memory.at_s:
        with _picture(folder / "w4-memory.svg", "W4 memory at a steady rate") as axes:
            _memory(axes, results.memory)
        made.append(folder / "w4-memory.svg")
    return made


class _picture:  # noqa: N801  # used as a function: `with _picture(path, title) as axes`
    def __init__(self, path: Path, title: str) -> None:
        import matplotlib as mpl

        mpl.use("svg")
        mpl.rcParams["svg.hashsalt"] = "anabranch"  # equal figures give equal files
        from matplotlib import pyplot as plt

        self._path, self._plt = path, plt
        self._figure, self._axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
        self._axes.set_title(title, loc="left")
        self._axes.spines[["top", "right"]].set_visible(False)

    def __enter__(self) -> Axes:
        return self._axes

    def __exit__(self, *_: object) -> None:
        self._figure.savefig(self._path, metadata={"Date": None})
        self._plt.close(self._figure)


def _bars(axes: Axes, entries: Sequence[Entry]) -> None:
    """Median events a second, and a dot for each run."""
    ran = sorted(
        (entry for entry in entries if entry.runs),
        key=lambda entry: median(run.events_per_s for run in entry.runs),
    )
    for at, entry in enumerate(ran):
        rates = [run.events_per_s for run in entry.runs]
        colour = _OURS if entry.peer == "anabranch" else _OTHERS
        axes.barh(at, median(rates), color=colour, height=0.6)
        axes.plot(rates, [at] * len(rates), "o", color=_RUNS, markersize=3, alpha=0.7)
    axes.set_yticks(range(len(ran)), [entry.peer for entry in ran])
    axes.set_xlabel("events/s, median of runs; dots are runs")
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _curves(axes: Axes, latencies: Sequence[Latency]) -> None:
    """Milliseconds by percentile, each peer and rate a line."""
    names = next(list(found.ms) for found in latencies if found.ms)
    for found in latencies:
        if found.ms:
            values = [max(found.ms[name], 0.1) for name in names]
            axes.plot(values, "o-", markersize=3, label=f"{found.peer}, {found.rate:,.0f}/s")
    axes.set_xticks(range(len(names)), ["max" if each == "p100" else each for each in names])
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(which="minor", labelsize=6)
    axes.set_ylabel("ms")
    axes.legend(frameon=False, fontsize=8)


def _lines(axes: Axes, points: Sequence[Point]) -> None:
    """CPU time of an event by size, a line for what grows."""
    for grows in dict.fromkeys(point.grows for point in points):
        ran = [point for point in points if point.grows == grows and point.runs]
        sizes = [point.size for point in ran]
        axes.plot(
            sizes, [median(run.cpu_us for run in point.runs) for point in ran], "o-",
            markersize=3, label=grows,
        )  # fmt: skip
    axes.set_xlabel("how many: components of a chain, branches, partitions, worker processes")
    axes.set_ylabel("CPU µs/event")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)


def _memory(axes: Axes, memory: Memory) -> None:
    """Resident memory over time."""
    axes.plot([at / 60 for at in memory.at_s], memory.rss_mb, color=_OURS)
    axes.set_xlabel(f"minutes at {memory.rate:,.0f} events/s")
    axes.set_ylabel("RSS MB")
    axes.set_ylim(bottom=0)
