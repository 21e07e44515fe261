"""The way of an event as a tree of short lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from topics.pipeline import EVENTS

if TYPE_CHECKING:
    from agents.trace import Attempt, DecisionEnd, EventTrace, Hop, LetterEnd

_DIGEST = len("sha256:") + 12
_REASON = 160
"""So much of a reason is shown; all of it is in --json."""
_INDENT = "  "


def lines_of(trace: EventTrace) -> Iterator[str]:
    """What is printed; lines are no longer than 80 characters where names are of usual length."""
    source = trace.source
    place = f"{source.topic}/{source.partition}/{source.offset}"
    yield f"{trace.event_id or 'an event without an id'}  {trace.state}"
    if trace.published is None:
        yield f"{place}  gone by retention"
    else:
        published = trace.published
        yield f"{place}  {published.bytes:,} bytes"
        at = published.record.written_at
        yield f"{_INDENT}published {at} by the {published.clock}'s clock"
    if trace.event_time is not None:
        yield f"{_INDENT}happened  {trace.event_time}"
    if trace.origin is not None:
        origin = trace.origin
        yield f"{_INDENT}a copy of {origin.topic}/{origin.partition}/{origin.offset}"
    for attempt in trace.attempts:
        if len(trace.attempts) > 1:
            yield f"attempt {attempt.attempt}" + ("" if attempt.attempt == 1 else ", redriven")
        yield from _first(attempt) if attempt.attempt == 1 else _later(attempt)
    if trace.waits_for:
        yield f"waits for {', '.join(trace.waits_for)}"
    for sentence in trace.not_known:
        yield f"not known: {sentence}"


def _first(attempt: Attempt) -> Iterator[str]:
    """Hops below the input that came last."""
    below: dict[str, list[Hop]] = {}
    names = {hop.component for hop in attempt.hops}
    for hop in attempt.hops:
        after = hop.after or next((name for name in hop.inputs if name in names), EVENTS)
        below.setdefault(after, []).append(hop)
    yield from _branches(EVENTS, 1, below, attempt.end)
    if attempt.end is not None and getattr(attempt.end, "after", None) is None:
        yield from _end(attempt.end, _INDENT)


def _branches(
    name: str, depth: int, below: dict[str, list[Hop]], end: DecisionEnd | LetterEnd | None
) -> Iterator[str]:
    indent = _INDENT * depth
    for hop in below.get(name, []):
        yield from _hop(hop, indent)
        yield from _branches(hop.component, depth + 1, below, end)
    if end is not None and getattr(end, "after", None) == name:
        yield from _end(end, indent)


def _later(attempt: Attempt) -> Iterator[str]:
    for step in attempt.steps:
        towards = f"to {step.next}" if step.next is not None else f"ended: {step.end}"
        yield f"{_INDENT}{step.record}  {towards}, {_count(step.events, 'event')} in it"
        if step.refused is not None:
            yield f"{_INDENT * 2}refused: {step.refused[:_REASON]}"
    for hop in attempt.hops:
        yield from _hop(hop, _INDENT)
    if attempt.end is not None:
        yield from _end(attempt.end, _INDENT)


def _hop(hop: Hop, indent: str) -> Iterator[str]:
    if hop.record is None:
        why = f", {hop.missing}" if hop.missing else ""
        yield f"{indent}{hop.component}  no record{why}"
        return
    yield f"{indent}{hop.component}  {hop.record}  {_count(hop.rows or 0, 'row')}"
    more = indent + _INDENT * 2
    if hop.reused:
        yield f"{more}made at an earlier attempt"
    elif times := _times(hop.in_join_ms, hop.queued_and_computed_ms, hop.after):
        yield more + times
    if hop.failure is not None:
        yield f"{more}absent: {hop.failure.error} in {hop.failure.component}"
        yield f"{more}{hop.failure.reason[:_REASON]}"
    if hop.model is not None and hop.model.digest:
        canary = ", a canary" if hop.model.challenger else ""
        yield f"{more}{hop.model.model} {hop.model.digest[:_DIGEST]} {hop.model.variant}{canary}"
    if hop.weight is not None and hop.signal is not None:
        share = hop.contribution or 0.0
        yield f"{more}signal {hop.signal:.4f} x weight {hop.weight:.4f} = {share:.4f}"
    elif hop.missing is not None:
        yield f"{more}not weighed: {hop.missing}"
    if hop.early:
        yield f"{more}early: it did not wait for a source that was down"


def _end(end: DecisionEnd | LetterEnd, indent: str) -> Iterator[str]:
    more = indent + _INDENT * 2
    if end.kind == "dead-letter":
        yield f"{indent}dead letter  {end.record}"
        yield f"{more}{end.error} in {end.stage}, {end.record.written_at}"
        yield f"{more}{end.reason[:_REASON]}"
        return
    score = "no score" if end.score is None else f"score {end.score:.4f}"
    yield f"{indent}{end.decision}  {end.record}  {score}"
    if times := _times(end.in_join_ms, end.queued_and_computed_ms, end.after):
        yield more + times
    yield f"{more}{end.latency_ms:,.0f} ms after it was published, {end.record.written_at}"
    yield f"{more}policy {end.policy}, weights {end.weights or 'of the pipeline file'}" + (
        "" if end.decided_by == "score" else f", decided by {end.decided_by}"
    )
    if end.instead_of is not None:
        yield f"{more}explored instead of {end.instead_of}, propensity {end.propensity:g}"
    elif end.propensity < 1:
        yield f"{more}not explored, propensity {end.propensity:g}"
    if end.missing:
        missing = ", ".join(f"{name} ({why})" for name, why in end.missing.items())
        yield f"{more}without {missing}"


def _times(in_join_ms: float | None, rest_ms: float | None, after: str | None) -> str:
    """In words; empty where nothing is known."""
    parts: Sequence[str] = [
        *([f"join {in_join_ms:,.0f} ms, last {after}"] if in_join_ms is not None else []),
        *([f"queue and computing {rest_ms:,.0f} ms"] if rest_ms is not None else []),
    ]
    return "; ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
