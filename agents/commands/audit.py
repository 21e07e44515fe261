"""`anabranch audit`: proof from the topics alone that every event ended exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from agents.commands.event_loop import run_async, until_signalled
from agents.commands.options import (
    BrokerOption,
    JsonOption,
    MetricsHostOption,
    MetricsPortOption,
    PipelineArgument,
    pipeline_file,
)
from agents.commands.terminal import print_json, stderr, stdout

if TYPE_CHECKING:
    from agents.audit import Audit
    from topics.pipeline import PipelineFile
    from topics.settings import BrokerSettings


def audit(
    pipeline: PipelineArgument,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Keep auditing what comes until Ctrl-C: also covers "
            "records that the broker drops meanwhile.",
        ),
    ] = False,
    broker: BrokerOption = None,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    as_json: JsonOption = False,
) -> None:
    """Read events, decisions and dead letters, and account for every source record.

    Exit code 1 when a record is lost or ended twice, when the broker has dropped one that was
    never read (expired unread), and when a topic is not what it was: other partitions than the
    pipeline file says, made anew, compacted. Records that are in flight are not lost: let the
    pipeline finish first. What retention has deleted after its end is expired: all is well. What
    nobody can say anything of, since its end may have been deleted too, is unjudged. A dead letter
    that was redriven counts as what came of it, once for each attempt.

    Examples:
      anabranch audit card-fraud

      anabranch audit card-fraud --json | jq .total.lost

      anabranch audit card-fraud --follow --metrics-port 9465
    """  # fmt: skip
    from agents.broker import needed_broker
    from topics.pipeline import Topology

    if metrics_port is not None and not follow:
        raise typer.BadParameter("it serves a running audit: --follow", param_hint="--metrics-port")
    settings = needed_broker(broker)
    file = pipeline_file(pipeline)
    topology = Topology.of(file.pipeline)

    async def main(show: Callable[[Audit], None] | None) -> Audit:
        from agents.audit import audit_topics
        from agents.broker import wait_for_broker

        stopping = asyncio.Event()
        # What does not follow has nothing to end well: a signal ends it, as it does any process.
        await wait_for_broker(settings)
        if follow:
            until_signalled(stopping)
            stderr.print("following; Ctrl-C ends and prints the result")
        return await audit_topics(settings, topology, stopping if follow else None, show)

    with ExitStack() as stack:
        port = None if metrics_port is None else (metrics_host, metrics_port)
        show = None if port is None else stack.enter_context(_metrics_served(port, settings, file))
        result: Audit = run_async(main(show))
    if as_json:
        print_json(result.model_dump_json())
    else:
        _print(result)
    if not result.passed:
        raise typer.Exit(1)


class AuditMetrics:
    """The result of the newest pass of an audit as Prometheus metrics, on a registry of its own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Gauge

        self.registry = CollectorRegistry()
        self._records = Gauge(
            "anabranch_audit_records",
            "Source records by how they ended, as the topics tell; lost, duplicated and "
            "expired_unread must be 0",
            ("pipeline", "partition", "state"),
            registry=self.registry,
        )
        self._problems = Gauge(
            "anabranch_audit_problems",
            "What is wrong with the topics themselves: partitions, made anew, compacted; must be 0",
            ("pipeline",),
            registry=self.registry,
        )
        self._passed_at = Gauge(
            "anabranch_audit_timestamp_seconds",
            "When the topics were last read to their ends, in seconds since 1970",
            ("pipeline",),
            registry=self.registry,
        )

    def observe(self, audit: Audit) -> None:
        """Show the result of a pass."""
        for partition, account in audit.partitions.items():
            for state, records in account.model_dump().items():
                self._records.labels(audit.pipeline, str(partition), state).set(records)
        self._problems.labels(audit.pipeline).set(len(audit.problems))
        self._passed_at.labels(audit.pipeline).set_to_current_time()


@contextmanager
def _metrics_served(
    port: tuple[str, int], settings: BrokerSettings, file: PipelineFile
) -> Iterator[Callable[[Audit], None]]:
    """Serve what the result is given as metrics; not live when no pass ends any more."""
    from agents.process.build_info import BuildInfo
    from agents.process.http_port import http_server
    from agents.process.liveness import Liveness

    metrics, liveness = AuditMetrics(), Liveness(settings.stuck_after_s)
    BuildInfo.of(file).show(metrics.registry, file.pipeline.name)

    def show(audit: Audit) -> None:
        metrics.observe(audit)
        liveness.look({})
        liveness.ready = True

    with http_server(*port, metrics.registry, liveness) as number:
        stderr.print(f"metrics and health on http://{port[0]}:{number}/metrics, /healthz, /readyz")
        yield show


def _print(result: Audit) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("partition")
    names = list(type(result.total).model_fields)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for partition, account in result.partitions.items():
        table.add_row(str(partition), *(f"{getattr(account, name):,}" for name in names))
    table.add_row("total", *(f"{getattr(result.total, name):,}" for name in names), style="bold")
    stdout.print(table)
    stdout.print(
        f"ever written: {result.written.events:,} events, {result.written.decisions:,} decisions, "
        f"{result.written.dead_letters:,} dead letters"
    )
    for note in result.notes:
        stdout.print(f"note: {note}", soft_wrap=True)
    for problem in result.problems:
        stdout.print(f"problem: {problem}", soft_wrap=True)
    stdout.print(_verdict(result))


def _verdict(result: Audit) -> str:
    """The result in one line."""
    total = result.total
    wrong = {
        "lost": total.lost, "ended twice": total.duplicated,
        "dropped by the broker and never read": total.expired_unread,
    }  # fmt: skip
    failures = [f"{number:,} {what}" for what, number in wrong.items() if number]
    if result.problems:
        failures.append("the topics are not what they were, see above")
    if failures:
        return f"FAILED: {', '.join(failures)}"
    if total.in_flight:
        return "nothing lost or duplicated; some events are still in flight"
    if total.unjudged:
        return "every event that can be judged ended exactly once"
    return "every event ended exactly once"
