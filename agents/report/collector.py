"""Reading a pipeline's topics for a report: each once, from a time on, to what is its end now.

Memory: counts by time and name, each bounded; of findings and changes the newest few hundred.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from pydantic import ValidationError

from agents.broker import LogReader, topic_names
from agents.drift import DRIFT, DRIFT_SIZES
from agents.renewal.renewal_ledger import RenewalLedger
from agents.replay.topic_records import PartitionRecords, topic_records
from agents.report.figures import (
    ChangeFigures,
    DriftDay,
    DriftFigures,
    LetterFigures,
    PeriodFigures,
    PipelineFigures,
    QualityFigure,
    QualityWindow,
    RenewalFigures,
    RenewalStepFigures,
    VersionFigures,
)
from agents.report.time_bins import BinCounts, TimeBins, latency_quantile, score_quantile
from agents.workers import TailReader
from topics.errors import WireError
from topics.pipeline import Pipeline, Topology
from topics.records import (
    QUALITY,
    ControlState,
    Decision,
    QualityFinding,
    attempt_of,
    error_of_letter,
    renewal_record,
    rfc3339_time,
)
from topics.settings import BrokerSettings

Progress = Callable[[int, int], None]

_MOST_KINDS = 200
_MOST_KEPT = 500
_EXAMPLE = 160


@dataclass(slots=True)
class _Collected:
    """What was read so far."""

    bins: TimeBins = field(default_factory=TimeBins)
    first_ms: int | None = None
    last_ms: int | None = None
    redriven: int = 0
    foreign: int = 0
    letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    drift: deque[DriftFigures] = field(default_factory=lambda: deque(maxlen=_MOST_KEPT))
    drift_days: deque[DriftDay] = field(default_factory=lambda: deque(maxlen=_MOST_KEPT))
    quality: dict[tuple[str, str], list[QualityWindow]] = field(default_factory=dict)
    unknown: dict[str, None] = field(default_factory=dict)
    renewals: RenewalLedger = field(default_factory=RenewalLedger)
    not_read: list[str] = field(default_factory=list)

    def decisions(self, part: PartitionRecords) -> None:
        """Count decisions."""
        for record in part.records:
            try:
                decision = Decision.model_validate_json(record.value or b"")
                self.redriven += attempt_of(record.headers) > 1
            except (ValidationError, ValueError):
                self.foreign += 1
                continue
            at = record.timestamp
            self.first_ms = at if self.first_ms is None else min(at, self.first_ms)
            self.last_ms = at if self.last_ms is None else max(at, self.last_ms)
            self.bins.at(at).count(decision)

    def dead_letters(self, part: PartitionRecords) -> None:
        """Count dead letters by what failed."""
        for record in part.records:
            headers = {name: value or b"" for name, value in record.headers}
            component = headers.get("x-error-stage", b"").decode(errors="replace")
            kind = (component, error_of_letter(record.headers))
            if kind not in self.letters and len(self.letters) >= _MOST_KINDS:
                kind = ("others", "")
            self.letters[kind] += 1
            reason = headers.get("x-error-reason", b"").decode(errors="replace")
            self.examples.setdefault(kind, reason[:_EXAMPLE])
            self.bins.at(record.timestamp).dead_letters += 1

    def findings(self, part: PartitionRecords) -> None:
        """Take in what the monitor has said."""
        for record in part.records:
            try:
                finding = orjson.loads(record.value or b"")
                self._finding(finding["kind"], finding)
            except (KeyError, TypeError, AttributeError, ValueError):
                self.foreign += 1

    def _finding(self, kind: str, finding: Mapping[str, Any]) -> None:
        if kind == DRIFT:
            self.drift.append(DriftFigures.model_validate(dict(finding)))
        elif kind == DRIFT_SIZES:
            series = finding["series"]
            self.drift_days.append(
                DriftDay(
                    at=finding["at"],
                    psi={name: each["psi"] for name, each in series.items()},
                    limits={name: each["limit"] for name, each in series.items()},
                    learning=list(finding["learning"]),
                    lacking=finding["lacking"],
                )
            )
        elif kind == QUALITY:
            self._window(QualityFinding.model_validate(dict(finding)))

    def _window(self, finding: QualityFinding) -> None:
        """Take in the figures of a window; a later revision of them holds."""
        self.unknown |= dict.fromkeys(finding.unknown)
        key = finding.since, finding.until
        if key not in self.quality and len(self.quality) >= _MOST_KEPT:
            del self.quality[min(self.quality)]
        self.quality[key] = [
            QualityWindow(
                since=finding.since, until=finding.until, state=finding.state,
                subject=each.subject, rows=each.rows, positives=each.positives,
                figures={
                    name: QualityFigure.model_validate(interval.model_dump())
                    for name, interval in (each.figures or each.estimated).items()
                },
                outside=each.outside,
            )
            for each in finding.subjects
        ]  # fmt: skip

    def renewed(self, part: PartitionRecords) -> None:
        """Take in what trainers have said."""
        for record in part.records:
            try:
                said = renewal_record(record.key, record.value)
            except WireError:
                self.foreign += 1
            else:
                if said is not None:
                    self.renewals.take(said)


async def collected(
    settings: BrokerSettings,
    pipeline: Pipeline,
    tail: TailReader,
    since: datetime | None,
    progress: Mapping[str, Progress] | None = None,
) -> PipelineFigures:
    """The figures of *pipeline* from *since* on. Raises BrokerError and KafkaError."""
    topology, into = Topology.of(pipeline), _Collected()
    shown = progress or {}
    takers: dict[str, Callable[[PartitionRecords], None]] = {
        topology.decisions: into.decisions,
        topology.dead_letters: into.dead_letters,
        topology.monitor: into.findings,
    }
    there = await topic_names(settings, [*takers, topology.control, topology.renewals])
    async with LogReader.of(settings) as reader:
        for topic, take in takers.items():
            if topic not in there:
                why = "no monitor has run" if topic == topology.monitor else "it is not there"
                into.not_read.append(f"{topic}: {why}")
                continue
            async for part in _since(reader, tail, topic, since, into.not_read, shown.get(topic)):
                await asyncio.to_thread(take, part)
        # Whose term it was is said by the whole of it, and few stand on it.
        if topology.renewals in there:
            first, _ = await tail.bounds(topology.renewals, 0)
            async for part in topic_records(reader, topology.renewals, {0: first}):
                into.renewed(part)
        control = ControlState()
        if topology.control in there:
            await _control(reader, tail, topology.control, control)
        else:
            into.not_read.append(f"{topology.control}: it is not there")
    if into.foreign:
        into.not_read.append(f"{into.foreign:,} records that are none of the pipeline's")
    return _figures(pipeline, into, control, since)


async def _since(
    reader: LogReader, tail: TailReader, topic: str, since: datetime | None, not_read: list[str],
    progress: Progress | None,
) -> AsyncIterator[PartitionRecords]:  # fmt: skip
    """The records of *topic* since then; what retention has taken of them is said."""
    least_ms = None if since is None else int(since.timestamp() * 1000)
    starts: dict[int, int] = {}
    for partition in range(await reader.partitions(topic)):
        first, end = await tail.bounds(topic, partition)
        starts[partition] = first
        if least_ms is not None and end > first:
            starts[partition] = await tail.since(topic, partition, least_ms)
        if first and starts[partition] == first:
            await _say_gone(tail, topic, partition, first, least_ms, not_read)
    async for part in topic_records(reader, topic, starts, progress=progress):
        # The embedded broker knows no times, so it begins with records of before.
        kept = [each for each in part.records if least_ms is None or each.timestamp >= least_ms]
        yield PartitionRecords(part.partition, kept)


async def _say_gone(
    tail: TailReader, topic: str, partition: int, first: int, least_ms: int | None,
    not_read: list[str],
) -> None:  # fmt: skip
    """Say what is no longer there of a partition that begins with offset *first*."""
    records = await tail.between(topic, partition, first, first + 1)
    oldest = next((record.timestamp for record in records), None)
    if least_ms is not None and (oldest is None or oldest < least_ms):
        return  # what was asked for is whole
    from_when = "" if oldest is None else f", of {rfc3339_time(oldest)}"
    not_read.append(
        f"{topic}[{partition}] begins with offset {first:,}{from_when}: what was before is deleted"
    )


async def _control(reader: LogReader, tail: TailReader, topic: str, state: ControlState) -> None:
    """Read the control topic, whole: it is compacted."""
    first, _ = await tail.bounds(topic, 0)
    async for part in topic_records(reader, topic, {0: first}):
        for record in part.records:
            try:
                state.apply(record.key, record.value)
            except WireError:
                continue  # what workers of before wrote there, and what nobody should have


# -- figures of what was read


def _figures(
    pipeline: Pipeline, into: _Collected, control: ControlState, since: datetime | None
) -> PipelineFigures:
    bins, total = into.bins.bins, into.bins.total
    since_text = None if since is None else rfc3339_time(int(since.timestamp() * 1000))
    costs = pipeline.policy.costs or {}
    return PipelineFigures(
        pipeline=pipeline.name, description=pipeline.description or "",
        since=since_text, first=_time(into.first_ms), last=_time(into.last_ms),
        bin_s=into.bins.width_ms / 1000, decided=total.decided, decisions=dict(total.decisions),
        redriven=into.redriven, degraded=total.degraded, late=total.late,
        dead_letters=total.dead_letters,
        latency_p50_ms=latency_quantile(total.latencies, 0.5),
        latency_p95_ms=latency_quantile(total.latencies, 0.95),
        latency_p99_ms=latency_quantile(total.latencies, 0.99),
        periods=[_period(start, counts) for start, counts in bins],
        versions=_versions(bins),
        letters=[
            LetterFigures(
                component=component, error=error, letters=count,
                example=into.examples.get((component, error), ""),
            )
            for (component, error), count in into.letters.most_common()
        ],
        changes=_changes(control, since_text), renewals=_renewals(into.renewals, since_text),
        explored=dict(total.explored),
        drift=[*into.drift],
        drift_days=sorted(into.drift_days, key=lambda day: day.at),
        quality=[each for _, window in sorted(into.quality.items()) for each in window],
        unknown=[*into.unknown],
        cost_by_outcome={
            name: {"positive": cost.positive, "negative": cost.negative}
            for name, cost in costs.items()
        },
        not_read=into.not_read,
    )  # fmt: skip


def _period(start_ms: int, counts: BinCounts) -> PeriodFigures:
    decided = max(counts.decided, 1)
    return PeriodFigures(
        start=rfc3339_time(start_ms), decided=counts.decided, decisions=dict(counts.decisions),
        dead_letters=counts.dead_letters, degraded=counts.degraded, late=counts.late,
        latency_p50_ms=latency_quantile(counts.latencies, 0.5),
        latency_p95_ms=latency_quantile(counts.latencies, 0.95),
        latency_p99_ms=latency_quantile(counts.latencies, 0.99),
        score_p10=score_quantile(counts.scores, 0.1),
        score_p50=score_quantile(counts.scores, 0.5),
        score_p90=score_quantile(counts.scores, 0.9),
        weights={stage: weight / decided for stage, weight in counts.weights.items()},
    )  # fmt: skip


def _versions(bins: Iterable[tuple[int, BinCounts]]) -> list[VersionFigures]:
    seen: dict[str, VersionFigures] = {}
    for start, counts in bins:
        at = rfc3339_time(start)
        for name, rows in counts.versions.items():
            before = seen.get(name)
            seen[name] = VersionFigures(
                version=name, decisions=rows + (before.decisions if before else 0),
                first=before.first if before else at, last=at,
            )  # fmt: skip
    return sorted(seen.values(), key=lambda each: (each.version.rsplit("@")[0], each.first))


def _changes(control: ControlState, since: str | None) -> list[ChangeFigures]:
    changes = [
        ChangeFigures(
            at=entry.at, action=entry.action, what=entry.what,
            version="" if entry.version is None else f"{entry.before or '–'} → {entry.version}",
            by=entry.by, reason=entry.reason,
        )
        for entry in control.audit
    ]  # fmt: skip
    if control.rollout is not None:
        changes += [
            ChangeFigures(
                at=turn.at, action="rollout", what=turn.in_service, version="", by="",
                reason="its decisions count from here on",
            )
            for turn in control.rollout.turns
        ]  # fmt: skip
    recent = [each for each in changes if since is None or each.at >= since[:19]]
    return sorted(recent, key=lambda each: each.at)[-_MOST_KEPT:]


def _renewals(ledger: RenewalLedger, since: str | None) -> list[RenewalFigures]:
    figures = [
        RenewalFigures(
            number=renewal.number, trigger=renewal.begun.trigger, reason=renewal.begun.reason,
            begun=rfc3339_time(renewal.begun.event_ms),
            steps=[
                RenewalStepFigures(
                    at=rfc3339_time(step.event_ms), step=step.step, state=step.state,
                    reason=step.reason,
                )
                for step in renewal.steps.values()
            ],
            ended=None if renewal.verdict is None else rfc3339_time(renewal.verdict.event_ms),
            verdict="" if renewal.verdict is None else renewal.verdict.verdict,
            why="" if renewal.verdict is None else renewal.verdict.reason,
        )
        for renewal in ledger
        if since is None or renewal.verdict is None or renewal.verdict.at >= since[:19]
    ]  # fmt: skip
    return figures[-_MOST_KEPT:]


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else rfc3339_time(milliseconds)
