"""`anabranch topics`: the topics of a pipeline."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from agents.commands.event_loop import run_async
from agents.commands.options import BrokerOption, JsonOption, PipelineArgument, pipeline_file
from agents.commands.terminal import stdout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from topics.pipeline import Pipeline, Topology
    from topics.settings import BrokerSettings


def topics(
    pipeline: PipelineArgument,
    create: Annotated[bool, typer.Option("--create", help="Make those that do not exist.")] = False,
    replication: Annotated[
        int | None,
        typer.Option(
            min=1, help="Replicas of new topics. [default: the broker's default.replication.factor]"
        ),
    ] = None,
    acls: Annotated[
        bool,
        typer.Option("--acls", help="Write out what each component must be allowed, instead."),
    ] = False,
    grant: Annotated[
        bool, typer.Option("--grant", help="Let each component's user do what --acls lists.")
    ] = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a pipeline's topics and their partition counts on the broker.

    Those that --create makes with three replicas or more get min.insync.replicas 2, unless the
    broker's own is higher: a record counts as written once it is on two brokers.

    Examples:
      anabranch topics card-fraud

      anabranch topics card-fraud --create --broker kafka:9092

      anabranch topics card-fraud --create --grant --broker kafka:9092

      anabranch topics card-fraud --acls --broker kafka:9092 | sh
    """
    import json

    from agents.broker import needed_broker
    from topics.pipeline import Topology

    spec = pipeline_file(pipeline).pipeline
    if acls:
        _print_acls(spec, broker, as_json=as_json)
        return
    topology = Topology.of(spec)
    settings = needed_broker(broker)
    counts = run_async(_counts(settings, topology, replication, create=create))
    if grant:
        run_async(_grant(spec, settings))
    if as_json:
        typer.echo(json.dumps({topic: counts.get(topic) for topic in topology.all}))
        return
    table = Table("topic", "partitions", box=None, pad_edge=False)
    for topic in topology.all:
        table.add_row(topic, str(counts.get(topic, "does not exist")))
    stdout.print(table)


async def _grant(pipeline: Pipeline, settings: BrokerSettings) -> None:
    from agents.broker import grant
    from topics.records import acls

    await grant(settings, acls(pipeline))


def _print_acls(pipeline: Pipeline, broker: str | None, *, as_json: bool) -> None:
    import json

    from topics.broker_address import checked_addresses
    from topics.records import acl_commands, acls

    needed = acls(pipeline)
    if as_json:
        typer.echo(json.dumps([acl._asdict() for acl in needed]))
        return
    named = os.environ.get("ANABRANCH_BROKER", "localhost:9092") if broker is None else broker
    address = ",".join(checked_addresses(named))
    for line in acl_commands(needed, address):
        typer.echo(line)


async def _counts(
    settings: BrokerSettings, topology: Topology, replication: int | None, *, create: bool
) -> Mapping[str, int]:
    from agents.broker import ensure_topics, partition_counts, wait_for_broker
    from topics.kafka import BROKER_DEFAULT

    await wait_for_broker(settings)
    if create:
        await ensure_topics(settings, topology, replication=replication or BROKER_DEFAULT)
    return await partition_counts(settings, topology)
