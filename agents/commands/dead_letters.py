"""`anabranch dead-letters`: what is dead and why, and how it gets its decision after all."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands import letters_view as view
from agents.commands.shared import (
    BrokerOption,
    JsonLinesOption,
    JsonOption,
    PipelineArgument,
    run_async,
    stderr,
    until_signalled,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.redrive import DeadLetter, DeadLetters, Edit, RedriveProgress, Selection
    from topics.pipeline import Pipeline, Topology
    from topics.redrive import RedriveRecord
    from topics.settings import BrokerSettings

_LONGEST_PLACE = 40

app = typer.Typer(
    help="See what is dead and why, and send it through the pipeline again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ReasonOption = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Only those with it in their class or reason."),
]
StageOption = Annotated[
    str | None, typer.Option("--stage", metavar="NAME", help="Only those that died there.")
]
AttemptsOption = Annotated[
    int,
    typer.Option(
        "--attempts", min=1, metavar="N", help="After so many attempts a letter is given up."
    ),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", "-n", min=1, help="So many at most, the oldest first.")
]
ListLimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        "-n",
        min=1,
        help=f"So many at most, the oldest first; {view.SHOWN} without it, or all with --json.",
    ),
]


@app.command("list")
def list_letters(
    pipeline: PipelineArgument,
    reason: ReasonOption = None,
    stage: StageOption = None,
    limit: ListLimitOption = None,
    healed: Annotated[
        bool, typer.Option("--all", help="Also those that have got their decision since.")
    ] = False,
    attempts: AttemptsOption = 3,
    broker: BrokerOption = None,
    as_json: JsonLinesOption = False,
) -> None:
    """List dead letters: one line for each event, the newest if it died more than once.

    Examples:
      anabranch dead-letters list card-fraud

      anabranch dead-letters list card-fraud --stage features --reason InvalidEvent

      anabranch dead-letters list card-fraud --json | jq -r .reason | sort | uniq -c
    """
    opened, _, settings = _opened(pipeline, broker)
    letters: DeadLetters = run_async(_read(settings, opened))
    chosen = [
        letter
        for letter in letters.selected(reason, stage)
        if healed or letters.state(letter, attempts) != "healed"
    ]
    if as_json:
        view.write_lines(letters, chosen[:limit], attempts)
    else:
        view.print_list(letters, chosen, limit, attempts)


@app.command()
def show(
    pipeline: PipelineArgument,
    place: Annotated[str, typer.Argument(metavar="PARTITION@OFFSET", help="As `list` names it.")],
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter whole: what went wrong, and the original record with its content.

    Examples:
      anabranch dead-letters show card-fraud 2@17
    """
    from agents.redrive import read_dead_letter

    partition, offset = _parsed(place)
    opened, topology, settings = _opened(pipeline, broker)
    letter: DeadLetter = run_async(
        read_dead_letter(settings, topology, opened.event.id, partition, offset)
    )
    if as_json:
        typer.echo(view.dumped(view.content(letter)))
    else:
        view.print_content(letter)


@app.command()
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
    from agents.redrive import Edit, due

    edited = None if edit is None else Edit(edit)
    opened, _, settings = _opened(pipeline, broker)
    letters: DeadLetters = run_async(_read(settings, opened))
    going, skipped = due(
        letters, letters.selected(reason, stage), attempts=attempts, again=again
    )  # fmt: skip
    if not as_json:
        view.print_skipped(skipped)
    count = len(going) if limit is None else min(limit, len(going))
    if count and not (yes or dry_run or as_json) and sys.stdin.isatty():
        typer.confirm(f"redrive {count:,} dead letters?", abort=True)
    plan = _Plan(opened, letters, going, edited, limit, rate, slower,
                 timeout if wait else None)  # fmt: skip
    done = run_async(_redrive(settings, plan, dry_run=dry_run)) if count else _Done()
    summary = view.summed(
        done.selected, done.progress, skipped=skipped, edited=edited is not None, dry_run=dry_run,
        not_sent=done.not_sent,
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


def _parsed(place: str) -> tuple[int, int]:
    """Partition and offset; BadParameter when *place* names none."""
    partition, at, offset = place.partition("@")
    if not (at and partition.isdecimal() and offset.isdecimal() and len(place) <= _LONGEST_PLACE):
        raise typer.BadParameter(
            f"{place!r} is not PARTITION@OFFSET", param_hint="PARTITION@OFFSET"
        )
    return int(partition), int(offset)


def _opened(pipeline: str, broker: str | None) -> tuple[Pipeline, Topology, BrokerSettings]:
    from agents.broker import needed_broker
    from topics.pipeline import Topology, find_pipeline, load_pipeline

    settings = needed_broker(broker)
    opened = load_pipeline(find_pipeline(pipeline)).pipeline
    return opened, Topology.of(opened), settings


async def _read(settings: BrokerSettings, pipeline: Pipeline) -> DeadLetters:
    from agents.broker import wait_for_broker
    from agents.redrive import read_dead_letters

    await wait_for_broker(settings)
    # Letters refer to nothing that refers to them, but the collector would look at all of them
    # again and again as they become more: that takes as long as reading them.
    gc.disable()
    try:
        with stderr.status("reading dead letters"):
            return await read_dead_letters(settings, pipeline, payloads=False)
    finally:
        gc.enable()
        gc.freeze()


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be redriven, and how."""

    pipeline: Pipeline
    letters: DeadLetters
    going: Sequence[DeadLetter]
    edit: Edit | None
    limit: int | None
    rate: float
    slower: float
    quiet_s: float | None


@dataclass(slots=True)
class _Done:
    """What came of it."""

    selected: list[Selection] = field(default_factory=list)
    progress: RedriveProgress | None = None
    not_sent: int = 0
    """Letters that are due and have not gone, because it was stopped."""


async def _redrive(settings: BrokerSettings, plan: _Plan, *, dry_run: bool) -> _Done:
    """Select and, unless it is a dry run, send; the letters are read some at a time."""
    from agents.redrive import RedrivePlanner, prepared_ahead, send_and_follow
    from agents.workers import TailReader

    done, stopping, tail = _Done(), asyncio.Event(), TailReader(settings)
    until_signalled(stopping)
    reader = RedrivePlanner(tail, plan.pipeline, plan.letters)

    async def parts() -> AsyncIterator[Sequence[RedriveRecord]]:
        async for selection in reader.selections(plan.going, plan.edit, most=plan.limit):
            made = [] if dry_run else await reader.redrive_records(selection)
            selection.ready = [it._replace(value=None, headers=[]) for it in selection.ready]
            done.selected.append(selection)
            yield made

    await tail.start()
    try:
        if dry_run:
            async for _ in parts():
                pass
            return done
        total = len(plan.going) if plan.limit is None else min(plan.limit, len(plan.going))
        with _progress("redriving", total) as advance:
            done.progress = await send_and_follow(
                settings, plan.pipeline, prepared_ahead(parts()), rate=plan.rate,
                slower=plan.slower, quiet_s=plan.quiet_s, stopping=stopping, advance=advance,
            )  # fmt: skip
        left = sum(len(selection.unfit) for selection in done.selected)
        tried = len(done.progress.sent) + len(done.progress.refused) + left
        done.not_sent = max(0, total - tried)
        return done
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
