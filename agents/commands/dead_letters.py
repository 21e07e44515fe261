"""`anabranch dead-letters`: what is dead and why, and how it gets its decision after all."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.letters import Letter, Letters
    from agents.redriving import Attempt, Selection
    from topics.pipeline import Pipeline
    from topics.redrive import End
    from topics.settings import BrokerSettings
    from topics.topology import Topology

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


@app.command("list")
def list_letters(
    pipeline: PipelineArgument,
    reason: ReasonOption = None,
    stage: StageOption = None,
    limit: LimitOption = None,
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
    letters: Letters = run_async(_read(settings, opened, payloads=False))
    chosen = [
        letter
        for letter in letters.selected(reason, stage)
        if healed or letters.state(letter, attempts) != "healed"
    ]
    if as_json:
        for letter in chosen[:limit]:
            typer.echo(view.dumped(view.described(letters, letter, attempts)))
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
    from agents.letters import read_letter

    partition, offset = _parsed(place)
    opened, topology, settings = _opened(pipeline, broker)
    letter: Letter = run_async(read_letter(settings, topology, opened.event.id, partition, offset))
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
        bool, typer.Option("--again", help="Also those whose errand has not ended yet.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, write nothing.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow each event to its end.")
    ] = True,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, metavar="SECONDS", help="How long to follow.")
    ] = 60.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters through the pipeline again, from the stage that failed.

    An event keeps its identity, and the outputs of the stages that succeeded; with --edit all
    stages compute. Each attempt at an event ends once, however often this is run. Exit code 1
    when an event was left, died again, or has not ended in time.

    Examples:
      anabranch dead-letters redrive card-fraud --stage risk-forest

      anabranch dead-letters redrive card-fraud --reason amount --edit '.amount |= tonumber'

      anabranch dead-letters redrive card-fraud --limit 1 --dry-run
    """
    from agents.editing import Edit
    from agents.redriving import select

    edited = None if edit is None else Edit(edit)
    opened, _, settings = _opened(pipeline, broker)
    letters: Letters = run_async(_read(settings, opened, payloads=True))
    selection = select(
        opened, letters, letters.selected(reason, stage),
        attempts=attempts, again=again, edit=edited,
    )  # fmt: skip
    selection.going = selection.going[:limit]
    if not as_json:
        view.print_selection(selection)
    count = len(selection.going)
    if count and not (yes or dry_run or as_json) and sys.stdin.isatty():
        typer.confirm(f"redrive {count:,} dead letters?", abort=True)
    ends: Mapping[Attempt, End] = {}
    if count and not dry_run:
        ends = run_async(_redrive(settings, opened, selection, letters, timeout if wait else None))
    summary = view.summed(selection, ends, dry_run=dry_run)
    if as_json:
        typer.echo(view.dumped(summary))
    else:
        view.print_summary(summary, waited=wait)
    if selection.left or summary["dead_again"] or (wait and summary["waiting"]):
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
    from agents.brokers import needed_broker
    from topics.pipeline_file import find_pipeline, load_pipeline
    from topics.topology import Topology

    settings = needed_broker(broker)
    opened = load_pipeline(find_pipeline(pipeline)).pipeline
    return opened, Topology.of(opened), settings


async def _read(settings: BrokerSettings, pipeline: Pipeline, *, payloads: bool) -> Letters:
    from agents.brokers import wait_for_broker
    from agents.letters import read_letters

    await wait_for_broker(settings)
    with stderr.status("reading dead letters"):
        return await read_letters(settings, pipeline, payloads=payloads)


async def _redrive(
    settings: BrokerSettings, pipeline: Pipeline, selection: Selection, letters: Letters,
    follow_s: float | None,
) -> Mapping[Attempt, End]:  # fmt: skip
    """Write the errands; with *follow_s*, how those that end in this time have ended."""
    from agents.known_outputs import known_outputs, passes
    from agents.redriving import errands, send, send_and_follow
    from topics.topology import Topology

    topology = Topology.of(pipeline)
    first = [] if selection.edited else [it for it in selection.going if it.attempt == 1]
    with _progress("finding outputs", passes(topology, first)) as advance:
        outputs = await known_outputs(settings, topology, first, advance)
    made = errands(pipeline, selection, letters, outputs)
    if follow_s is None:
        await send(settings, pipeline, made)
        return {}
    with _progress("redriving", len(made)) as advance:
        return await send_and_follow(settings, pipeline, made, timeout_s=follow_s, advance=advance)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, where that is a terminal."""
    from rich.progress import Progress

    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
