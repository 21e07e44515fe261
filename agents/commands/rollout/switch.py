"""`anabranch rollout switch | back`: from which event on the other pipeline's decisions count."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async
from agents.commands.options import BrokerOption, ChangeReasonOption, JsonOption, pipeline_file
from agents.commands.rollout.pipelines import AfterArgument, BeforeOption
from agents.commands.terminal import stderr, stdout

if TYPE_CHECKING:
    from topics.records import Turn

MostBehindOption = Annotated[
    int,
    typer.Option(
        "--most-behind", min=0, metavar="N",
        help="Refuse when the one that is to take over is more records behind.",
    ),
]  # fmt: skip
WaitOption = Annotated[
    float,
    typer.Option(
        "--wait", min=0, metavar="SECONDS",
        help="How long to wait for the end of both pipelines' weighing agents.",
    ),
]  # fmt: skip


def switch(
    new: AfterArgument,
    old: BeforeOption,
    reason: ChangeReasonOption = "",
    most_behind: MostBehindOption = 1000,
    wait: WaitOption = 120.0,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the changed pipeline's decisions count, from the events on that are published next.

    It waits until the weighing agents of both are ended, writes the offsets on the control topic of
    OLD, where consumers read them, and says that the agents may start again: decisions wait for
    some seconds. Producers may move before or after. Killed, it has switched or it has not: run it
    again.

    Example:
      anabranch rollout switch card-fraud-v2.yaml --from card-fraud --reason "features of devices"
    """
    _turn(new, old, reason, most_behind, wait, broker, forward=True, as_json=as_json)


def back(
    new: AfterArgument,
    old: BeforeOption,
    reason: ChangeReasonOption = "",
    most_behind: MostBehindOption = 1000,
    wait: WaitOption = 120.0,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the decisions of the pipeline that was there first count again: `switch`, the other way.

    Example:
      anabranch rollout back card-fraud-v2.yaml --from card-fraud --reason "too many reviews"
    """
    _turn(new, old, reason, most_behind, wait, broker, forward=False, as_json=as_json)


def _turn(
    new: str, old: str, reason: str, most_behind: int, wait_s: float, broker: str | None,
    *, forward: bool, as_json: bool,
) -> None:  # fmt: skip
    from agents.broker import needed_broker, wait_for_broker
    from agents.control import ControlTopic
    from agents.rollout import Switch
    from topics.pipeline import Topology

    after, before = pipeline_file(new).pipeline, pipeline_file(old).pipeline
    settings = needed_broker(broker)
    target = after if forward else before

    async def run() -> Turn:
        await wait_for_broker(settings)
        async with ControlTopic(settings, Topology.of(before)) as control:
            return await Switch(settings, before, after, control).to(
                target, reason=reason, most_behind=most_behind, wait_s=wait_s,
                tell=lambda text: stderr.print(text, highlight=False),
            )  # fmt: skip

    turn: Turn = run_async(run())
    if as_json:
        typer.echo(turn.model_dump_json())
        return
    stdout.print(f"{target.name} is in service from here on:", highlight=False)
    for topic, offsets in turn.since.items():
        stdout.print(f"  {topic} {json.dumps(offsets)}", highlight=False, soft_wrap=True)
    stdout.print(
        f"start the weighing agents of {before.name} and {after.name} again", highlight=False,
    )  # fmt: skip
