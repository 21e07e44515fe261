"""What begins a renewal: a person, a schedule, or what the monitor has found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from agents.renewal.renewal_ledger import Renewal, RenewalLedger
from topics.pipeline import Renew, duration_ms
from topics.records import rfc3339_time

_LEARNT = ("promoted", "partly", "lost", "undecided")
"""Verdicts of renewals that have come to an end of their own."""


class MonitorFinding(NamedTuple):
    """Drift, or a loss of quality, that the monitor has found."""

    kind: Literal["drift", "quality"]
    since_ms: int
    """Event time from which on it is so."""
    text: str
    """In a sentence."""


class DueRenewal(NamedTuple):
    """Why a renewal is to begin now."""

    trigger: Literal["drift", "quality", "schedule", "request"]
    reason: str
    request: str = ""


def due_renewal(
    renew: Renew, ledger: RenewalLedger, clock_ms: int | None, *, delay_ms: int,
    models_until_ms: int | None, findings: Iterable[MonitorFinding] = (),
) -> DueRenewal | None:  # fmt: skip
    """What begins a renewal at event time *clock_ms*, if anything does.

    *delay_ms* is how late outcomes are; *models_until_ms* the time of the newest event that the
    models in service know of. A request is at once. Everything else waits until `cool_down` after
    the last renewal; a finding also until `fresh` days since it began have outcomes, and it is
    answered by models that have learned of these, a renewal's or those that people have trained.
    """
    if (request := ledger.wanted) is not None:
        reason = f"{request.by}: {request.reason}" if request.reason else request.by
        return DueRenewal("request", reason, request.name)
    if clock_ms is None or not renew.is_by_itself or ledger.running is not None:
        return None
    newest = ledger.newest
    last = None if newest is None else newest.verdict
    if last is not None and clock_ms < last.event_ms + duration_ms(renew.cool_down):
        return None
    by_people_ms = -1 if models_until_ms is None else models_until_ms
    learnt_ms = max((_learnt_ms(renewal, delay_ms) for renewal in ledger), default=-1)
    learnt_ms = max(learnt_ms, by_people_ms)
    fresh_ms = duration_ms(renew.fresh)
    for finding in findings:
        if finding.kind not in renew.triggers:
            continue
        if learnt_ms >= finding.since_ms + fresh_ms:
            continue
        if clock_ms - delay_ms >= finding.since_ms + fresh_ms:
            return DueRenewal(finding.kind, finding.text)
    known_ms = None if models_until_ms is None else models_until_ms + delay_ms
    return _scheduled(renew, newest, clock_ms, known_ms)


def overtaking(
    renew: Renew, renewal: Renewal, clock_ms: int, *, delay_ms: int,
    findings: Iterable[MonitorFinding],
) -> MonitorFinding | None:  # fmt: skip
    """A drift that a renewal which runs cannot know of, and that another one would know by now.

    It began after all that the renewal is trained on, and `fresh` days of it have outcomes. Lost
    quality is none: it goes on until a renewal has won, and would end each that is to mend it.
    """
    if not renewal.is_done("dataset"):
        return None
    learnt_ms = renewal.done("dataset").event_ms - delay_ms
    for finding in findings:
        if finding.kind == "drift" and finding.kind in renew.triggers:
            due_ms = finding.since_ms + duration_ms(renew.fresh) + delay_ms
            if finding.since_ms > learnt_ms and clock_ms >= due_ms:
                return finding
    return None


def _scheduled(
    renew: Renew, newest: Renewal | None, clock_ms: int, models_known_ms: int | None
) -> DueRenewal | None:
    """Whether it is time; before the first renewal, since the models in service were trained.

    At *models_known_ms* the outcome of the newest event that they know of was known.
    """
    if "schedule" not in renew.triggers:
        return None
    last_ms = models_known_ms if newest is None else newest.begun.event_ms
    if last_ms is None or clock_ms < last_ms + duration_ms(renew.every):
        return None
    return DueRenewal("schedule", f"every {renew.every}: the last was at {rfc3339_time(last_ms)}")


def _learnt_ms(renewal: Renewal, delay_ms: int) -> int:
    """Up to which event time a renewal knows what came true; -1 where it came to no end."""
    verdict = renewal.verdict
    if verdict is None or verdict.verdict not in _LEARNT or not renewal.is_done("dataset"):
        return -1
    return renewal.done("dataset").event_ms - delay_ms
