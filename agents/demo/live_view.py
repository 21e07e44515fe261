"""What a demo or a run looks like in a terminal: stages, latency, the last decisions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agents.demo.demo_stream import Demo, Summary
from agents.process.child_process import WorkerProcess
from agents.workers import StageStats
from topics.printable import printable

_RECENT = 2000
_STYLES = ("green", "yellow", "red", "magenta", "cyan")


class LiveView:
    """Renders a demo in progress; rates are since the last rendering."""

    def __init__(self, demo: Demo, events: int, workers: WorkerProcess) -> None:
        self._demo = demo
        self._workers = workers
        self._events = events
        self._rows: dict[str, int] = {}
        self._at = time.monotonic()

    def __rich__(self) -> Group:
        demo = self._demo
        return Group(
            self._headline(),
            self._stages(self._workers.stages),
            _decisions(list(demo.recent), demo.pipeline.policy),
        )

    def _headline(self) -> Text:
        demo = self._demo
        recent = demo.latencies()[-_RECENT:]
        latency = "waiting for the first decision"
        if len(recent):
            p50, p99 = np.percentile(recent, [50, 99])
            latency = f"latency p50 {p50:.0f} ms, p99 {p99:.0f} ms"
        return Text.assemble(
            (f" {demo.pipeline.name} ", "bold reverse"),
            f"  {demo.published:,} of {self._events:,} published, {demo.ended:,} ended, "
            f"{demo.published - demo.ended:,} in flight   {latency}",
        )

    def _stages(self, stages: Mapping[str, StageStats]) -> Table:
        now = time.monotonic()
        table = Table(box=None, pad_edge=False)
        for column in ("component", "rows/s", "rows", "absent", "lag"):
            table.add_column(column, justify="left" if column == "component" else "right")
        for name, stats in stages.items():
            rate = (stats.rows - self._rows.get(name, 0)) / max(now - self._at, 1e-3)
            self._rows[name] = stats.rows
            table.add_row(
                name, f"{rate:,.0f}", f"{stats.rows:,}", f"{stats.failed:,}", f"{stats.lag:,}"
            )
        self._at = now
        return table


def _decisions(recent: Sequence[Mapping[str, Any]], policy: Any) -> Panel:
    names = [policy.otherwise, *policy.thresholds]
    table = Table(box=None, pad_edge=False, expand=True)
    for column in ("event", "decision", "score = Σ weight · signal", "ms"):
        table.add_column(column, justify="right" if column == "ms" else "left")
    for record in recent:
        style = _STYLES[names.index(record["decision"]) % len(_STYLES)]
        parts = " + ".join(
            f"{name} {part['weight']:.2f}·{part['signal']:.3f}"
            for name, part in record["contributions"].items()
        )
        table.add_row(
            record["event_id"], Text(printable(record["decision"]), style=style),
            "late" if record["score"] is None else f"{record['score']:.3f} = {parts}",
            f"{record['latency_ms']:.0f}",
        )  # fmt: skip
    return Panel(table, title="last decisions", title_align="left")


def summary_table(summary: Summary, demo: Demo) -> Table:
    """The summary for people."""
    latency = summary.latency_ms
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    ends = ", ".join(f"{count:,} {name}" for name, count in sorted(demo.by_decision().items()))
    rows = {
        "events": f"{summary.events:,}",
        "decisions": f"{summary.decisions:,} ({ends})" if ends else "0",
        "degraded": f"{demo.degraded:,}",
        "dead letters": f"{summary.dead_letters:,}",
        "unaccounted": f"{summary.unaccounted:,}",
        "duplicates": f"{summary.duplicates:,}",
        "throughput": f"{summary.throughput_eps:,.0f} events/s, first publish to last decision",
        "latency": f"p50 {latency.p50} ms, p99 {latency.p99} ms, publish to decision",
        "AUC ROC": _metric(summary.auc),
        "average precision": _metric(summary.average_precision),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _metric(value: float | None) -> str:
    return "not defined (labels of one class only)" if value is None else f"{value:.3f}"
