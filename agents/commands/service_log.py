"""`anabranch models log`: what the control and reports topics say of a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.shared import BrokerOption, JsonOption, run_async, stdout
from agents.commands.target import controlling

if TYPE_CHECKING:
    from agents.control import ControlTopic
    from topics.records import AuditEntry


def log(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE")],
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """The audit trail: who put what into service, when and why, and where it has begun.

    Example:
      anabranch models log card-fraud --json | jq .audit
    """
    import json

    from agents.control import now_ms

    async def read() -> ControlTopic:
        async with controlling(pipeline, broker) as (_, control):
            control.reports.forget(now_ms())
            return control

    control: ControlTopic = run_async(read())
    state, reports = control.state, control.reports
    if as_json:
        typer.echo(json.dumps({
            "audit": [entry.model_dump() for entry in state.audit],
            "deployments": {name: it.model_dump() for name, it in state.deployments.items()},
            "workers": [{"component": name, "worker": worker, **it.model_dump()}
                        for (name, worker), it in reports.workers.items()],
            "firsts": [{"component": name, "version": version, "partition": p, **it.model_dump()}
                       for (name, version, p), it in reports.firsts.items()],
        }))  # fmt: skip
    else:
        _print_log(state.audit)


def _print_log(audit: list[AuditEntry]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("at", "action", "what", "version", "before", "by", "reason"):
        table.add_column(column)
    for it in audit:
        table.add_row(
            it.at, it.action, it.what, str(it.version or "-"), str(it.before or "-"), it.by,
            it.reason,
        )  # fmt: skip
    stdout.print(table)
