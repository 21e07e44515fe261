"""`anabranch dead-letters show`: one dead letter, whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.dead_letters import view
from agents.commands.event_loop import run_async
from agents.commands.options import BrokerOption, JsonOption, PipelineArgument, pipeline_file

if TYPE_CHECKING:
    from agents.redrive import DeadLetter

_LONGEST_PLACE = 40


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
    from agents.broker import needed_broker
    from agents.redrive import read_dead_letter
    from topics.pipeline import Topology

    partition, offset = _partition_and_offset(place)
    settings, spec = needed_broker(broker), pipeline_file(pipeline).pipeline
    letter: DeadLetter = run_async(
        read_dead_letter(settings, Topology.of(spec), spec.event.id, partition, offset)
    )
    if as_json:
        typer.echo(view.dumped(view.content(letter)))
    else:
        view.print_content(letter)


def _partition_and_offset(place: str) -> tuple[int, int]:
    """Raises BadParameter when *place* names none."""
    partition, at, offset = place.partition("@")
    if not (at and partition.isdecimal() and offset.isdecimal() and len(place) <= _LONGEST_PLACE):
        raise typer.BadParameter(
            f"{place!r} is not PARTITION@OFFSET", param_hint="PARTITION@OFFSET"
        )
    return int(partition), int(offset)
