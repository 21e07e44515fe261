"""`anabranch models log`: what the control and reports topics say of a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async
from agents.commands.models.service import open_control
from agents.commands.options import BrokerOption, JsonOption
from agents.commands.terminal import stdout

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
        async with open_control(pipeline, broker) as (_file, _settings, control):
            control.reports.forget(now_ms())
            return control

    control: ControlTopic = run_async(read())
    state, reports = control.state, control.reports
    if as_json:
        typer.echo(json.dumps({
            "audit": [entry.model_dump() for entry in state.audit],
            "deployments": {name: deployment.model_dump()
                            for name, deployment in state.deployments.items()},
            "workers": [{"component": name, "worker": worker, **report.model_dump()}
                        for (name, worker), report in reports.workers.items()],
            "firsts": [{"component": name, "version": version, "partition": p, **first.model_dump()}
                       for (name, version, p), first in reports.firsts.items()],
        }))  # fmt: skip
    else:
        _print_log(state.audit)


def _print_log(audit: list[AuditEntry]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("at", "action", "what", "version", "before", "by", "reason"):
        table.add_column(column)
    for entry in audit:
        allowed_by = "" if entry.evidence is None else f"if {entry.evidence.condition}"
        table.add_row(
            entry.at, entry.action, entry.what, str(entry.version or "-"),
            str(entry.before or "-"), entry.by, " ".join(filter(None, [entry.reason, allowed_by])),
        )  # fmt: skip
    stdout.print(table)
