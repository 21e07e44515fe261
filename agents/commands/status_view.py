"""What `anabranch status` looks like in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agents.status import Advice, Partition, PipelineStatus, WorkerStatus, clock, duration, ranges
from topics.printable import printable

_WIDTH, _INDENT = 80, "  "
_STYLES = {"up": "green", "starting": "cyan", "waiting": "yellow", "down": "red"}
_DIGEST = len("sha256:") + 12


def rendered(status: PipelineStatus, todo: Sequence[Advice]) -> Group:
    """Tables of workers and versions, and what to do."""
    parts: list[RenderableType] = [_workers(status.workers.values()), Text()]
    if any(worker.in_service for worker in status.workers.values()):
        parts += [_versions(status.workers.values()), Text()]
    return Group(*parts, *_advice(status, todo))


def _workers(workers: Iterable[WorkerStatus]) -> Table:
    """A line for the partitions of a worker that fare alike."""
    table = _table("component", "partitions", "state", "rows", "oldest", "lag")
    for worker in workers:
        name = worker.worker
        for alike in _alike(worker.partitions):
            rows = sum(partition.rows for partition in alike)
            oldest = max(
                (partition.oldest_s for partition in alike if partition.oldest_s is not None),
                default=None,
            )
            known = [partition.lag for partition in alike if partition.lag is not None]
            table.add_row(
                Text(printable(name)), ranges([partition.partition for partition in alike]),
                _state(worker, alike),
                f"{rows:,}" if rows else "-", "-" if oldest is None else duration(oldest),
                f"{sum(known):,}" if len(known) == len(alike) else "?",
            )  # fmt: skip
            name = ""
    return table


def _alike(partitions: Sequence[Partition]) -> list[list[Partition]]:
    groups: dict[object, list[Partition]] = {}
    for partition in partitions:
        waits = tuple((wait.stage, wait.down) for wait in partition.waiting_for)
        groups.setdefault((partition.state, waits, partition.for_s is None), []).append(partition)
    return list(groups.values())


def _state(worker: WorkerStatus, alike: Sequence[Partition]) -> Text:
    first = alike[0]
    longest = max(alike, key=lambda partition: partition.for_s or 0.0)
    text = str(first.state)
    if first.state == "down":
        if longest.since is not None and longest.for_s is not None:
            text = f"down since {clock(longest.since)} ({duration(longest.for_s)})"
        else:
            text = "down: no owner" if worker.alive else "down: never heard of"
    elif first.state == "starting" and longest.for_s is not None:
        text = f"starting for {duration(longest.for_s)}"
    longest_s: dict[str, float] = {}
    for wait in (wait for partition in alike for wait in partition.waiting_for):
        longest_s[wait.stage] = max(wait.for_s, longest_s.get(wait.stage, wait.for_s))
    waits = [
        f"{wait.stage}{' (down)' if wait.down else ''} {duration(longest_s[wait.stage])}"
        for wait in first.waiting_for
    ]
    if waits:
        text += f" {'for' if first.state == 'waiting' else 'without'} {', '.join(waits)}"
    return Text(printable(text), style=_STYLES[first.state])


def _versions(workers: Iterable[WorkerStatus]) -> Table:
    table = _table("in service", "version", "digest", "variant")
    for worker in workers:
        for model in worker.in_service:
            version = f"{model.version} (challenger)" if model.challenger else model.version
            cells = (model.what, version, model.digest[:_DIGEST], model.variant)
            table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _advice(status: PipelineStatus, todo: Sequence[Advice]) -> list[Text]:
    """A line or more for each; a command is never broken."""
    lines_shown: list[Text] = []
    if status.well:
        lines_shown.append(Text(f"{printable(status.pipeline)}: all is well", style="green"))
    for advice in todo:
        lines_shown += [Text(line, style="bold") for line in _lines(advice.wrong)]
        together = f"{advice.remedy}: {advice.command}" if advice.command else advice.remedy
        if advice.command and len(together) > _WIDTH - len(_INDENT):
            lines = [*_lines(f"{advice.remedy}:", _INDENT), 2 * _INDENT + printable(advice.command)]
        else:
            lines = _lines(together, _INDENT)
        lines_shown += [Text(line, no_wrap=True, overflow="ignore") for line in lines]
    return lines_shown


def _lines(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        printable(text), _WIDTH, initial_indent=indent, subsequent_indent=indent,
        break_on_hyphens=False,
    )  # fmt: skip


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, width=None)
    for name in columns:
        numeric = name in ("rows", "oldest", "lag")
        table.add_column(
            name, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric
        )
    return table
