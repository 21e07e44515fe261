"""`anabranch dead-letters list`: one line for each event that died."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.dead_letters import view
from agents.commands.dead_letters.filters import AttemptsOption, ReasonOption, StageOption, read_all
from agents.commands.event_loop import run_async
from agents.commands.options import BrokerOption, PipelineArgument, pipeline_file

if TYPE_CHECKING:
    from agents.redrive import DeadLetterIndex

ListLimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        "-n",
        min=1,
        help=f"So many at most, the oldest first; {view.SHOWN} without it, or all with --json.",
    ),
]


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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List dead letters: one line for each event, the newest if it died more than once.

    Examples:
      anabranch dead-letters list card-fraud

      anabranch dead-letters list card-fraud --stage features --reason InvalidEvent

      anabranch dead-letters list card-fraud --json | jq -r .reason | sort | uniq -c
    """
    from agents.broker import needed_broker

    settings = needed_broker(broker)
    letters: DeadLetterIndex = run_async(read_all(settings, pipeline_file(pipeline).pipeline))
    chosen = [
        letter
        for letter in letters.selected(reason, stage)
        if healed or letters.state(letter, attempts) != "healed"
    ]
    if as_json:
        view.write_lines(letters, chosen[:limit], attempts)
    else:
        view.print_list(letters, chosen, limit, attempts)
