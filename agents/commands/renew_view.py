"""Renewals of models as people see them: a table of all, and the steps of one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.table import Table

from agents.commands.terminal import stdout

if TYPE_CHECKING:
    from agents.renewal.renewal_ledger import Renewal, RenewalLedger

_SHOWN = 10
_TO_MINUTES = len("2026-11-30T16:30")


def document(ledger: RenewalLedger, ended: Renewal | None) -> str:
    """What is known, as JSON: all renewals, or the one that has *ended*."""
    renewals = [*ledger] if ended is None else [ended]
    return json.dumps({
        "owner": ledger.owner, "term": ledger.term, "void": ledger.void,
        "renewals": [_as_json(renewal) for renewal in renewals],
    })  # fmt: skip


def _as_json(renewal: Renewal) -> dict[str, Any]:
    verdict = renewal.verdict
    return {
        **renewal.begun.model_dump(),
        "steps": {name: step.model_dump() for name, step in renewal.steps.items()},
        "attempts": dict(renewal.attempts),
        "contests": {name: each.model_dump() for name, each in renewal.contests.items()},
        "verdict": None if verdict is None else verdict.model_dump(),
    }


def print_ledger(ledger: RenewalLedger, shown: Renewal | None) -> None:
    """The newest renewals, and the steps of one of them: of *shown*, or of the last."""
    renewal = shown or ledger.newest
    if renewal is None:
        stdout.print("no renewal yet")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("", "begun", "by", "verdict", "why"):
        table.add_column(column, overflow="fold" if column == "why" else "ellipsis")
    for each in [*ledger][-_SHOWN:]:
        verdict = each.verdict
        table.add_row(
            str(each.number), each.begun.at[:_TO_MINUTES], each.begun.trigger,
            f"at {each.next_step}" if verdict is None else verdict.verdict,
            each.begun.reason if verdict is None else verdict.reason,
        )  # fmt: skip
    stdout.print(table)
    steps = Table(box=None, pad_edge=False, title=f"renewal {renewal.number}", title_justify="left")
    for column in ("step", "state", "tries", "what"):
        steps.add_column(column, overflow="fold")
    for name, step in renewal.steps.items():
        tries = str(renewal.attempts.get(name, 0))
        steps.add_row(name, step.state, tries, step.reason)
    stdout.print(steps)
    for component, contest in renewal.contests.items():
        stdout.print(f"{component}@{contest.challenger}: {contest.verdict}", highlight=False)
    owner = ledger.owner or "nobody: start one with `anabranch renew`"
    stdout.print(f"trainer: {owner}", highlight=False, soft_wrap=True)
