"""The results as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median

from tests.benchmarks.contest import Entry
from tests.benchmarks.figures import Spread
from tests.benchmarks.results import Results
from tests.benchmarks.throughput import Run
from tests.benchmarks.w3 import Latency
from tests.benchmarks.w4 import Memory, Point
from tests.benchmarks.w5 import Start, Weight


def markdown(results: Results) -> str:
    """All tables, with what they were measured on."""
    parts = [_measured_on(results.machine)]
    parts += [contest_table(title, entries) for title, entries in results.contests.items()]
    tables: Sequence[tuple[str, Sequence[str]]] = [
        ("W3 latency, event to decision", latency_table(results.latencies)),
        ("W4 growth", growth_table(results.points)),
        ("W4 memory", memory_table(results.memory)),
        ("W5 start", start_table(results.starts)),
        ("W5 memory of a worker with one component, after load", weight_table(results.weights)),
        ("Micro-benchmarks, µs a row", micro_table(results.micro)),
    ]
    parts += [_section(title, lines) for title, lines in tables if lines]
    return "\n\n".join(parts) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; none without rows.

    >>> table(["a", "b"], [["1", "2"]])
    ['| a | b |', '|---|---|', '| 1 | 2 |']
    """
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *lines] if lines else []


def contest_table(title: str, entries: Sequence[Entry]) -> str:
    """A workload's peers, the fastest first; then those without figures, and why."""
    ran = sorted(
        (entry for entry in entries if entry.runs),
        key=lambda entry: -median(run.events_per_s for run in entry.runs),
    )
    rows = [[entry.peer, *_figures(entry.runs)] for entry in ran]
    heads = [
        "peer", "events/s", "lowest–highest", "peer's CPU µs/event", "broker's CPU µs/event",
        "memory MB", "runs",
    ]  # fmt: skip
    notes = [f"- {entry.peer}: {entry.trouble}" for entry in entries if entry.trouble]
    notes += [
        f"- {entry.peer}: {most:,} outputs more than events in a run"
        for entry in ran
        if (most := max(run.duplicates for run in entry.runs))
    ]
    lines = table(heads, rows)
    return _section(title, [*lines, *([""] if lines and notes else []), *notes])


def _figures(runs: Sequence[Run]) -> list[str]:
    rates = Spread.of([run.events_per_s for run in runs])
    return [
        f"{rates.median:,.0f}",
        f"{rates.lowest:,.0f}–{rates.highest:,.0f}",
        _middle(runs, lambda run: run.cpu_us),
        _middle(runs, lambda run: run.broker_cpu_us),
        _middle(runs, lambda run: run.rss_mb),
        str(len(runs)),
    ]


def _middle(runs: Sequence[Run], of: Callable[[Run], float]) -> str:
    return f"{median(of(run) for run in runs):,.0f}"


def latency_table(latencies: Sequence[Latency]) -> list[str]:
    """Milliseconds by percentile; or why there are none."""
    shown = ("p50", "p99", "p99.9", "p100")
    rows = [
        [
            found.peer, f"{found.rate:,.0f}",
            *(f"{found.ms[name]:,.1f}" if found.ms else "–" for name in shown),
            _ends([run["p99"] for run in found.runs]), str(len(found.runs)), found.trouble or "",
        ]
        for found in latencies
    ]  # fmt: skip
    heads = [
        "peer",
        "events/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "p99 of runs",
        "runs",
        "",
    ]
    return table(heads, rows)


def _ends(values: Sequence[float]) -> str:
    return f"{min(values):,.1f}–{max(values):,.1f}" if values else "–"


def growth_table(points: Sequence[Point]) -> list[str]:
    """CPU time and throughput by what grows."""
    rows = []
    for point in points:
        figures = _figures(point.runs)[:4] if point.runs else ["–"] * 4
        rows.append([point.grows, str(point.size), *figures, point.trouble or ""])
    heads = ["grows", "size", "events/s", "lowest–highest", "CPU µs/event", "broker's", ""]
    return [*table(heads, rows), *workers_ratio(points)]


def workers_ratio(points: Sequence[Point]) -> list[str]:
    """What a second worker process adds to throughput, in a sentence; where it was measured."""
    rates = {
        point.size: median(run.events_per_s for run in point.runs)
        for point in points
        if point.grows == "workers" and point.runs
    }
    if not {1, 2} <= rates.keys():
        return []
    return ["", f"Two worker processes: {rates[2] / rates[1]:.2f} times the throughput of one."]


def memory_table(memory: Memory | None) -> list[str]:
    """The slope of memory."""
    if memory is None:
        return []
    if memory.trouble or len(memory.at_s) < 8:
        return [memory.trouble or "too few samples"]
    row = [
        f"{memory.rate:,.0f}", f"{memory.at_s[-1] / 60:.1f}", f"{memory.rss_mb[-1]:,.0f}",
        f"{memory.grown_mb:+,.1f}", f"{memory.mb_per_hour:+,.1f}",
    ]  # fmt: skip
    heads = ["events/s", "minutes", "RSS MB in the end", "grown MB after a quarter", "MB an hour"]
    return table(heads, [row])


def start_table(starts: Sequence[Start]) -> list[str]:
    """Seconds from the start of a process to its first output."""
    heads = ["what", "first output s", "of which to the group s", "joining it s", "starts", ""]
    rows = [
        [
            start.what,
            *(f"{median(values):.2f}" if values else "–"
              for values in (start.first_output_s, start.group_seen_s, start.join_s)),
            str(len(start.first_output_s)), start.trouble or "",
        ]
        for start in starts
    ]  # fmt: skip
    return table(heads, rows)


def weight_table(weights: Sequence[Weight]) -> list[str]:
    """Memory of workers."""
    rows = [
        [weight.component, f"{weight.pss_mb:,.0f}", f"{weight.rss_mb:,.0f}"] for weight in weights
    ]
    return table(["component", "PSS MB", "RSS MB"], rows)


def micro_table(micro: dict[str, dict[int, float]]) -> list[str]:
    """Microseconds a row by the rows of a batch."""
    sizes = sorted({n for by_rows in micro.values() for n in by_rows})
    rows = [
        [name, *(f"{by_rows[n]:,.2f}" if n in by_rows else "–" for n in sizes)]
        for name, by_rows in micro.items()
    ]
    return table(["", *(f"{n:,} rows" for n in sizes)], rows)


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"### {title}", "", *lines])


def _measured_on(machine: dict[str, object]) -> str:
    commit = str(machine.get("commit") or "")[:12]
    changed = ", with changes" if machine.get("changed") else ""
    return (
        f"{machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('memory_gb')} GB; "
        f"Linux {machine.get('kernel')}, Python {machine.get('python')}, "
        f"Apache Kafka {machine.get('kafka')} on the same machine; commit {commit}{changed}."
    )
