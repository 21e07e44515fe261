"""`anabranch rollout acls`: the rights that a rollout takes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async
from agents.commands.options import BrokerOption, JsonOption, pipeline_file
from agents.commands.rollout.pipelines import AfterArgument, BeforeOption

if TYPE_CHECKING:
    from topics.records import Acl


def acls(
    new: AfterArgument,
    old: BeforeOption,
    grant: Annotated[bool, typer.Option("--grant", help="Give these rights.")] = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write out what producers, consumers and the operator need besides while a rollout lasts.

    The operator of the changed pipeline runs it. Both pipelines' own rights are those of
    `anabranch topics --acls`.

    Examples:
      anabranch rollout acls card-fraud-v2.yaml --from card-fraud --broker kafka:9092 | sh

      anabranch rollout acls card-fraud-v2.yaml --from card-fraud --grant
    """
    from topics.broker_address import checked_addresses
    from topics.records import acl_commands, rollout_acls

    needed = rollout_acls(pipeline_file(old).pipeline, pipeline_file(new).pipeline)
    if grant:
        run_async(_grant(needed, broker))
    if as_json:
        typer.echo(json.dumps([acl._asdict() for acl in needed]))
    elif not grant:
        named = os.environ.get("ANABRANCH_BROKER", "localhost:9092") if broker is None else broker
        for line in acl_commands(needed, ",".join(checked_addresses(named))):
            typer.echo(line)


async def _grant(needed: list[Acl], broker: str | None) -> None:
    from agents.broker import grant, needed_broker, wait_for_broker

    settings = needed_broker(broker)
    await wait_for_broker(settings)
    await grant(settings, needed)
