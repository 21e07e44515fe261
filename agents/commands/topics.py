"""`anabranch topics`: the topics of a pipeline."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.table import Table

from agents.commands.event_loop import run_async
from agents.commands.options import BrokerOption, JsonOption, PipelineArgument, pipeline_file
from agents.commands.terminal import stderr, stdout

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
    asyncapi: Annotated[
        bool,
        typer.Option("--asyncapi", help="Print the AsyncAPI document (YAML) of all that, instead."),
    ] = False,
    json_schema: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC", help="Print the JSON Schema of that topic's values, instead."
        ),
    ] = None,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a pipeline's topics on the broker: partitions, and how long they keep a record.

    Topics that are not compacted keep what the longest window reaches back, outcomes' delay
    included, and the pipeline file's `retention: {replay: ...}`, 7 days at least. --create makes
    them so; of those that were there before and keep less it says what to set.

    Those that --create makes with three replicas or more get min.insync.replicas 2, unless the
    broker's own is higher: a record counts as written once it is on two brokers. PIPELINE.requests,
    where gateways keep Idempotency-Keys, is made with them, and not listed.

    --asyncapi and --json-schema say what stands on them, to programs; they ask no broker.

    Examples:
      anabranch topics card-fraud

      anabranch topics card-fraud --create --broker kafka:9092

      anabranch topics card-fraud --create --grant --broker kafka:9092

      anabranch topics card-fraud --acls --broker kafka:9092 | sh

      anabranch topics card-fraud --asyncapi --broker kafka:9092 > card-fraud.asyncapi.yaml

      anabranch topics card-fraud --json-schema decisions
    """
    import json

    from agents.broker import needed_broker
    from topics.pipeline import Topology

    spec = pipeline_file(pipeline).pipeline
    if acls:
        _print_acls(spec, broker, as_json=as_json)
        return
    if json_schema is not None:
        from agents.contract import value_schema

        typer.echo(json.dumps(value_schema(spec, json_schema), indent=2, ensure_ascii=False))
        return
    if asyncapi:
        _print_asyncapi(spec, broker, as_json=as_json)
        return
    topology = Topology.of(spec)
    settings = needed_broker(broker)
    state = run_async(_state(settings, topology, replication, create=create))
    if grant:
        run_async(_grant(spec, settings))
    if as_json:
        typer.echo(json.dumps({topic: state.counts.get(topic) for topic in topology.all}))
    else:
        table = Table("topic", "partitions", "keeps", box=None, pad_edge=False)
        for topic in topology.all:
            count = str(state.counts.get(topic, "does not exist"))
            table.add_row(topic, count, state.kept.get(topic, ""))
        stdout.print(table)
    for finding in state.findings:
        stderr.print(f"warning: {finding}", markup=False, highlight=False, soft_wrap=True)


async def _grant(pipeline: Pipeline, settings: BrokerSettings) -> None:
    from agents.broker import grant
    from topics.records import acls

    await grant(settings, acls(pipeline))


def _print_acls(pipeline: Pipeline, broker: str | None, *, as_json: bool) -> None:
    import json

    from topics.records import acl_commands, acls

    needed = acls(pipeline)
    if as_json:
        typer.echo(json.dumps([acl._asdict() for acl in needed]))
        return
    for line in acl_commands(needed, ",".join(_addresses(broker))):
        typer.echo(line)


def _print_asyncapi(pipeline: Pipeline, broker: str | None, *, as_json: bool) -> None:
    import json

    from agents.contract import asyncapi_document
    from topics.settings import SecuritySettings

    document = asyncapi_document(pipeline, _addresses(broker), SecuritySettings())
    if as_json:
        typer.echo(json.dumps(document, ensure_ascii=False))
    else:
        import yaml

        typer.echo(
            yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100), nl=False
        )


def _addresses(broker: str | None) -> list[str]:
    """Where the broker is said to be; it is not asked."""
    from topics.broker_address import checked_addresses

    named = os.environ.get("ANABRANCH_BROKER", "localhost:9092") if broker is None else broker
    return checked_addresses(named)


class _State(NamedTuple):
    """The topics as they are on the broker."""

    counts: Mapping[str, int]
    kept: Mapping[str, str]
    """Topic → how long it keeps a record, for people; without those that we may not ask about."""
    findings: list[str]


async def _state(
    settings: BrokerSettings, topology: Topology, replication: int | None, *, create: bool
) -> _State:
    from agents.broker import (
        days,
        ensure_monitor_topics,
        ensure_requests_topic,
        ensure_topics,
        partition_counts,
        retention_findings,
        topic_settings,
        wait_for_broker,
    )
    from topics.errors import NotAuthorized
    from topics.kafka import BROKER_DEFAULT

    findings: list[str] = []
    await wait_for_broker(settings)
    if create:
        await ensure_topics(settings, topology, replication=replication or BROKER_DEFAULT)
        try:
            await ensure_requests_topic(settings, topology)
            await ensure_monitor_topics(settings, topology)
        except NotAuthorized as exc:
            findings.append(str(exc))
    by_topic = await topic_settings(settings, topology.all)
    kept = {
        topic: "newest of each key"
        if topic in topology.compacted
        else days(int(given["retention.ms"]))
        for topic, given in by_topic.items()
    }
    counts = await partition_counts(settings, topology)
    findings += await retention_findings(settings, topology)
    return _State(counts, kept, findings)
