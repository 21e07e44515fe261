"""`anabranch plan`: partitions, workers, CPU, memory, disk and network for a rate."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from agents.commands.options import JsonOption, PipelineArgument, pipeline_file
from agents.commands.terminal import stdout

if TYPE_CHECKING:
    from agents.capacity import Plan


def plan(
    pipeline: PipelineArgument,
    events_per_s: Annotated[
        float, typer.Option(min=0.001, max=1e9, metavar="N", help="Events a second, at the peak.")
    ],
    p99_ms: Annotated[
        float, typer.Option(min=1, metavar="M", help="99 of 100 events are decided within this.")
    ],
    event_bytes: Annotated[
        float | None, typer.Option(min=1, help="Of an event; the benchmark's without it.")
    ] = None,
    entities: Annotated[int, typer.Option(min=0, help="Keys that windows remember at a time.")] = 0,
    retention_hours: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="How long the broker keeps records. [default: as the windows need]"
        ),
    ] = None,
    replication: Annotated[int, typer.Option(min=1, help="Replicas of each topic.")] = 3,
    spare: Annotated[
        int,
        typer.Option(
            min=0, max=1000, help="Workers of a component that may be gone at the peak (n + 1)."
        ),
    ] = 1,
    as_json: JsonOption = False,
) -> None:
    """Say what a pipeline needs, each component in processes of its own.

    From what an event was measured to cost, and a queueing model; it says what it leaves out. Of
    each component a worker may be gone without the others being too few; what the loss of one
    does to events is said, by what the pipeline file has as late:.

    Examples:
      anabranch plan card-fraud --events-per-s 5000 --p99-ms 200 --entities 100000

      anabranch plan card-fraud --events-per-s 1000000 --p99-ms 500 --retention-hours 24

      anabranch plan card-fraud --events-per-s 5000 --p99-ms 200 --json | jq .partitions
    """
    from agents.capacity import Demand, unit_costs
    from agents.capacity import plan as plan_for

    demand = Demand(
        events_per_s, p99_ms, event_bytes, entities, retention_hours, replication, spare
    )
    needs = plan_for(pipeline_file(pipeline).pipeline, demand, unit_costs())
    if as_json:
        typer.echo(json.dumps(asdict(needs)))
    else:
        _show(needs)


def _show(needs: Plan) -> None:
    table = Table(
        "component", "replicas", "CPU cores", "memory", "busy", "one gone", box=None, pad_edge=False
    )
    for name, workers in needs.components.items():
        table.add_row(
            name, str(workers.replicas), f"{workers.cpu_cores:.1f}",
            f"{workers.memory_mb:,.0f} MB each", f"{workers.busy:.0%}",
            f"{workers.busy_at_loss:.0%}",
        )  # fmt: skip
    stdout.print(table)
    topics = Table("topic", "bytes an event", "disk", box=None, pad_edge=False)
    for name, topic in needs.topics.items():
        each = f"{topic.bytes_per_event:,.0f}" if topic.bytes_per_event else "snapshots"
        topics.add_row(name, each, f"{topic.disk_gb:,.1f} GB")
    stdout.print(topics)
    totals = {
        "partitions": f"{needs.partitions:,}",
        "workers": f"{needs.cpu_cores:,.1f} cores, {needs.memory_gb:,.1f} GB",
        "brokers": f"{needs.broker_cores:,.2f} cores, {needs.disk_gb:,.0f} GB on disk, "
        f"kept for {needs.retention_h / 24:,.1f} days",
        "network": f"{needs.in_mb_per_s:,.1f} MB/s in, {needs.out_mb_per_s:,.1f} MB/s out, "
        f"{needs.replication_mb_per_s:,.1f} MB/s between brokers",
        "latency": f"p50 {needs.p50_ms:,.0f} ms, p99 {needs.p99_ms:,.0f} ms",
    }
    for name, value in totals.items():
        stdout.print(f"{name:<12}{value}", highlight=False, soft_wrap=True)
    for warning in needs.warnings:
        stdout.print(f"note: {warning}", highlight=False, soft_wrap=True)
