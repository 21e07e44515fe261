"""What the commands that run over a file have in common: its options, its bar, its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.terminal import counting_bars, print_json, stderr, stdout

if TYPE_CHECKING:
    from agents.offline import Extraction, FileSummary
    from topics.pipeline import PipelineFile

_BAR_NAME_WIDTH = 8

FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="Parquet, CSV or JSONL; - is JSON lines on stdin.")
]
RowsOutputOption = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="OUT", help="OUT.parquet, OUT.csv or OUT.jsonl."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite OUT and what is beside it.")]
OutcomesOption = Annotated[
    bool,
    typer.Option(
        "--outcomes/--no-outcomes",
        help="Let features see the file's labels, once these are known (outcomes.delay).",
    ),
]


def write_file(
    file: PipelineFile, opened: Extraction, source: str, output: Path, *, outcomes: bool,
    bar: str, as_json: bool,
) -> None:  # fmt: skip
    """Write what is *opened* says of *source* to *output*, and what came of it to the terminal."""
    from agents.offline import write_rows
    from models.data import count_rows

    with counting_bars(name_width=_BAR_NAME_WIDTH, disable=not stderr.is_terminal) as bars:
        task = bars.add_task(bar, total=count_rows(source))
        advance: Callable[[int], None] = lambda rows: bars.advance(task, rows)  # noqa: E731
        summary = write_rows(
            file, opened, source, output, labelled=None if outcomes else False, progress=advance
        )
        bars.update(task, total=summary.rows)
    if as_json:
        print_json(summary.model_dump_json())
    else:
        print_summary(summary)


def print_summary(summary: FileSummary) -> None:
    """What was written, and what was not."""
    stdout.print(
        f"{summary.written:,} of {summary.rows:,} rows in {summary.output}", soft_wrap=True
    )
    for decision, count in summary.decisions.items():
        stdout.print(f"  {count:>10,}  {decision}")
    if summary.degraded:
        stdout.print(f"  {summary.degraded:>10,}  of them without some stage (column missing)")
    if summary.dead:
        stdout.print(f"{summary.dead:,} dead letters in {summary.dead_letters}", soft_wrap=True)
        for error, count in summary.errors.items():
            stdout.print(f"  {count:>10,}  {error}")
