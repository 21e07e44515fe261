"""What `anabranch status` looks like in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agents.status import Advice, Partition, PipelineStatus, Worker, clock, duration, ranges
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


def _workers(workers: Iterable[Worker]) -> Table:
    """A line for the partitions of a worker that fare alike."""
    table = _table("component", "partitions", "state", "rows", "oldest", "lag")
    for worker in workers:
        name = worker.worker
        for alike in _alike(worker.partitions):
            rows = sum(it.rows for it in alike)
            oldest = max((it.oldest_s for it in alike if it.oldest_s is not None), default=None)
            known = [it.lag for it in alike if it.lag is not None]
            table.add_row(
                Text(printable(name)), ranges([it.partition for it in alike]),
                _state(worker, alike),
                f"{rows:,}" if rows else "-", "-" if oldest is None else duration(oldest),
                f"{sum(known):,}" if len(known) == len(alike) else "?",
            )  # fmt: skip
            name = ""
    return table


def _alike(partitions: Sequence[Partition]) -> list[list[Partition]]:
    found: dict[object, list[Partition]] = {}
    for it in partitions:
        waits = tuple((wait.stage, wait.down) for wait in it.waiting_for)
        found.setdefault((it.state, waits, it.for_s is None), []).append(it)
    return list(found.values())


def _state(worker: Worker, alike: Sequence[Partition]) -> Text:
    first = alike[0]
    longest = max(alike, key=lambda it: it.for_s or 0.0)
    said = str(first.state)
    if first.state == "down":
        if longest.since is not None and longest.for_s is not None:
            said = f"down since {clock(longest.since)} ({duration(longest.for_s)})"
        else:
            said = "down: no owner" if worker.alive else "down: never heard of"
    elif first.state == "starting" and longest.for_s is not None:
        said = f"starting for {duration(longest.for_s)}"
    waits = [
        f"{wait.stage}{' (down)' if wait.down else ''} "
        f"{duration(max(w.for_s for it in alike for w in it.waiting_for if w.stage == wait.stage))}"
        for wait in first.waiting_for
    ]
    if waits:
        said += f" {'for' if first.state == 'waiting' else 'without'} {', '.join(waits)}"
    return Text(printable(said), style=_STYLES[first.state])


def _versions(workers: Iterable[Worker]) -> Table:
    table = _table("in service", "version", "digest", "variant")
    for worker in workers:
        for it in worker.in_service:
            version = f"{it.version} (challenger)" if it.challenger else it.version
            cells = (it.what, version, it.digest[:_DIGEST], it.variant)
            table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _advice(status: PipelineStatus, todo: Sequence[Advice]) -> list[Text]:
    """A line or more for each; a command is never broken."""
    said: list[Text] = []
    if status.well:
        said.append(Text(f"{printable(status.pipeline)}: all is well", style="green"))
    for it in todo:
        said += [Text(line, style="bold") for line in _lines(it.wrong)]
        together = f"{it.remedy}: {it.command}" if it.command else it.remedy
        if it.command and len(together) > _WIDTH - len(_INDENT):
            lines = [*_lines(f"{it.remedy}:", _INDENT), 2 * _INDENT + printable(it.command)]
        else:
            lines = _lines(together, _INDENT)
        said += [Text(line, no_wrap=True, overflow="ignore") for line in lines]
    return said


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
