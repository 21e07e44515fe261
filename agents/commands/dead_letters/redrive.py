"""`anabranch dead-letters redrive`: dead letters go through the pipeline again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.dead_letters import view
from agents.commands.dead_letters.filters import AttemptsOption, ReasonOption, StageOption, read_all
from agents.commands.event_loop import run_async, until_signalled
from agents.commands.options import BrokerOption, JsonOption, PipelineArgument, pipeline_file
from agents.commands.terminal import stderr

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.redrive import DeadLetter, DeadLetterIndex, Edit, RedriveProgress, Selection
    from topics.pipeline import Pipeline
    from topics.redrive import RedriveBatch
    from topics.settings import BrokerSettings

LimitOption = Annotated[
    int | None, typer.Option("--limit", "-n", min=1, help="So many at most, the oldest first.")
]


def redrive(
    pipeline: PipelineArgument,
    reason: ReasonOption = None,
    stage: StageOption = None,
    edit: Annotated[
        str | None,
        typer.Option("--edit", metavar="FILTER", help="A jq program that mends each event."),
    ] = None,
    limit: LimitOption = None,
    attempts: AttemptsOption = 3,
    again: Annotated[
        bool, typer.Option("--again", help="Also those that are on their way already.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, write nothing.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow each event to its end.")
    ] = True,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            min=0,
            metavar="SECONDS",
            help="When no event has ended for so long, none is waited for any more.",
        ),
    ] = 60.0,
    rate: Annotated[
        float,
        typer.Option(
            "--rate",
            min=0.1,
            metavar="N",
            help="So many events a second, at most.",
        ),
    ] = 5000.0,
    slower: Annotated[
        float,
        typer.Option(
            "--slower",
            min=0,
            metavar="SHARE",
            help="By so much live events may be slower than without a redrive (0.1: 10 %): where "
            "their median latency is higher, redriven events go slower, down to 20 a second. It is "
            "measured at the start, and every half minute, for two seconds without any.",
        ),
    ] = 0.1,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters through the pipeline again, from the stage that failed.

    An event keeps its identity, and the outputs of the stages that succeeded; with --edit all
    stages compute. Each attempt at an event ends once, however often this is run: after Ctrl-C,
    or a crash, the same command sends what has not gone yet. Exit code 1 when an event was left,
    not sent, died again, or has not ended in time.

    Examples:
      anabranch dead-letters redrive card-fraud --stage risk-forest

      anabranch dead-letters redrive card-fraud --reason amount --edit '.amount |= tonumber'

      anabranch dead-letters redrive card-fraud --limit 1 --dry-run
    """
    from agents.broker import needed_broker
    from agents.redrive import Edit, due

    edited = None if edit is None else Edit(edit)
    settings, spec = needed_broker(broker), pipeline_file(pipeline).pipeline
    letters: DeadLetterIndex = run_async(read_all(settings, spec))
    going, skipped = due(
        letters, letters.selected(reason, stage), attempts=attempts, again=again
    )  # fmt: skip
    if not as_json:
        view.print_skipped(skipped)
    count = len(going) if limit is None else min(limit, len(going))
    if count and not (yes or dry_run or as_json) and sys.stdin.isatty():
        typer.confirm(f"redrive {count:,} dead letters?", abort=True)
    plan = _Plan(spec, letters, going, edited, limit, rate, slower,
                 timeout if wait else None)  # fmt: skip
    result = run_async(_redrive(settings, plan, dry_run=dry_run)) if count else _Result()
    summary = view.summed(
        result.selected, result.progress, skipped=skipped, edited=edited is not None,
        dry_run=dry_run, not_sent=result.not_sent,
    )  # fmt: skip
    if as_json:
        typer.echo(view.dumped(summary))
    else:
        view.print_left(summary["left"])
        view.print_summary(summary, waited=wait)
    if summary["left"] or summary["not_sent"] or summary["dead_again"] or (
        wait and summary["waiting"]
    ):  # fmt: skip
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be redriven, and how."""

    pipeline: Pipeline
    letters: DeadLetterIndex
    going: Sequence[DeadLetter]
    edit: Edit | None
    limit: int | None
    rate: float
    slower: float
    quiet_s: float | None


@dataclass(slots=True)
class _Result:
    """What came of it."""

    selected: list[Selection] = field(default_factory=list)
    progress: RedriveProgress | None = None
    not_sent: int = 0
    """Dead letters that are due and have not gone, because it was stopped."""


async def _redrive(settings: BrokerSettings, plan: _Plan, *, dry_run: bool) -> _Result:
    """Select and, unless it is a dry run, send; the letters are read some at a time."""
    from agents.redrive import RedrivePlanner, prepared_ahead, send_and_follow
    from agents.workers import TailReader

    result, stopping, tail = _Result(), asyncio.Event(), TailReader(settings)
    until_signalled(stopping)
    reader = RedrivePlanner(tail, plan.pipeline, plan.letters)

    async def parts() -> AsyncIterator[RedriveBatch]:
        async for selection in reader.selections(plan.going, plan.edit, most=plan.limit):
            batches = [] if dry_run else await reader.redrive_batches(selection)
            selection.ready = [
                letter._replace(value=None, headers=[]) for letter in selection.ready
            ]
            result.selected.append(selection)
            for batch in batches:
                yield batch

    await tail.start()
    try:
        if dry_run:
            async for _ in parts():
                pass
            return result
        total = len(plan.going) if plan.limit is None else min(plan.limit, len(plan.going))
        with _progress("redriving", total) as advance:
            result.progress = await send_and_follow(
                settings, plan.pipeline, prepared_ahead(parts()), rate=plan.rate,
                slower=plan.slower, quiet_s=plan.quiet_s, stopping=stopping, advance=advance,
            )  # fmt: skip
        left = sum(len(selection.unfit) for selection in result.selected)
        tried = len(result.progress.sent) + len(result.progress.refused) + left
        result.not_sent = max(0, total - tried)
        return result
    finally:
        await tail.stop()


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, with how many a second, where that is a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:,.0f}/s")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(),
               TimeRemainingColumn())  # fmt: skip
    shown = Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
    with shown as progress:
        task = progress.add_task(what, total=total)
        yield lambda more: progress.advance(task, more)
