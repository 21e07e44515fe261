"""The watcher of drift: events and decisions in, findings on `<pipeline>.monitor` out.

Hours are closed by event time: ten minutes after the newest once all is read; while it is behind,
where the slowest partition is. A version that is promoted brings its own reference, so the watcher
begins anew with it; new weights do not, as they may come every minute.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge

from agents.drift.references import ServedReference, label, served_reference
from agents.drift.waiting_rows import DecidedRows, WaitingRows
from agents.monitor import DecisionBatch, EventBatch, MatchedOutcomes, MonitorContext, MonitorTime
from agents.monitor import Finding as MonitorFinding
from models.drift.detector import DriftDetector
from models.drift.finding import Finding
from models.drift.hour_counts import HOUR_MS
from topics.records import rfc3339_time

log = logging.getLogger(__name__)

DRIFT, DRIFT_SIZES = "drift", "drift-sizes"
"""Kinds of records: what was found, and once a day how far everything is from its reference."""
_GRACE_MS = 600_000
_MOST_OPEN_MS = 16 * 24 * HOUR_MS
"""So much event time may be open while partitions are far apart."""
_DAY_MS = 24 * HOUR_MS
_LENGTH = struct.Struct(">I")


class DriftMetrics:
    """Of one pipeline."""

    def __init__(self, pipeline: str, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, ("pipeline", "series"), registry=registry)

        self._pipeline = pipeline
        self._psi = gauge(
            "anabranch_drift_psi", "Population stability index of the newest window's values."
        )
        self._limit = gauge("anabranch_drift_psi_limit", "From where on it is not ordinary.")
        self._found = gauge("anabranch_drift_found", "1 while a field or signal has drifted.")
        self._learning = gauge(
            "anabranch_drift_learning_days", "Days until a series' reference is enough to judge by."
        )
        self._late = Counter(
            "anabranch_drift_late_rows", "Rows that came when their hour was closed.",
            ("pipeline",), registry=registry,
        ).labels(pipeline)  # fmt: skip
        self._seen_late = 0

    def observe(self, detector: DriftDetector, sizes: Mapping[str, tuple[float, float]]) -> None:
        """The detector as it is; *sizes*: series → index and limit."""
        found = {(each.source, each.series) for each in detector.going_on}
        learning = detector.learning
        for series in detector.reference.series:
            name = label(series)
            is_found = (series.source, series.name) in found
            self._found.labels(self._pipeline, name).set(is_found)
            self._learning.labels(self._pipeline, name).set(learning.get(series.name, 0))
            if name in sizes:
                self._psi.labels(self._pipeline, name).set(sizes[name][0])
                self._limit.labels(self._pipeline, name).set(sizes[name][1])
        self._late.inc(max(0, detector.late_rows - self._seen_late))
        self._seen_late = detector.late_rows


class DriftWatcher:
    """Keeps the contract of `agents.monitor.watcher`."""

    name = DRIFT
    reads_events = True

    def __init__(self, context: MonitorContext) -> None:
        self._context, self._pipeline = context, context.file.pipeline
        self._metrics = DriftMetrics(self._pipeline.name, context.metrics)
        self._newest: dict[int, int] = {}
        self._reported_day = -1
        self._begin(served_reference(self._pipeline, context.registry, context.control()))

    @classmethod
    def of(cls, context: MonitorContext) -> DriftWatcher | None:
        """The watcher of a pipeline; None where there is nothing to hold it to."""
        watcher = cls(context)
        return watcher if watcher.detector.reference.series else None

    def _begin(self, served: ServedReference) -> None:
        policy = self._pipeline.policy
        self._served = served
        decisions = [policy.otherwise, *policy.thresholds]
        self.detector = DriftDetector(served.reference, decisions)
        self._waiting = WaitingRows()
        for what, why in served.lacking.items():
            log.warning("drift of %s is not watched: %s", what, why)

    def events(self, batch: EventBatch) -> None:
        """Let fields wait for what is decided."""
        if not len(batch):
            return
        rows = self.detector.placed("event", batch.columns, batch.event_ms)
        self._count(self._waiting.add(batch.partition, batch.offsets, rows))

    def decisions(self, batch: DecisionBatch) -> None:
        """Count signals, and the fields of the events that were decided."""
        for partition in np.unique(batch.partitions).tolist():
            rows = np.flatnonzero(batch.partitions == partition)
            decided = [batch.decided[row] for row in rows.tolist()]
            self._count(self._waiting.decided(partition, batch.offsets[rows], decided))
            newest = int(batch.event_ms[rows].max())
            self._newest[partition] = max(newest, self._newest.get(partition, newest))
        columns = {stage: batch.signals[:, at] for at, stage in enumerate(batch.stages)}
        columns["score"] = batch.scores
        self.detector.add("signal", columns, batch.event_ms, list(batch.decided))

    def outcomes(self, matched: MatchedOutcomes) -> None:
        """What came true says nothing of drift."""

    def _count(self, parts: Any) -> None:
        part: DecidedRows
        for part in parts:
            self.detector.count(part.rows, part.decisions)

    def tick(self, now: MonitorTime) -> Sequence[MonitorFinding]:
        """Close the hours that are whole; what is found in them."""
        self._follow_versions()
        if not self._newest:
            return []
        newest = max(self._newest.values())
        until = newest - _GRACE_MS if now.caught_up else min(self._newest.values())
        until = max(until, newest - _MOST_OPEN_MS)
        self._count(self._waiting.before(until // HOUR_MS))
        found = self.detector.close(until)
        for each in found:
            log.warning("drift: %s", each.sentence)
        findings = [self._finding(each) for each in found]
        sizes = self._sizes(until)
        if sizes and until // _DAY_MS != self._reported_day:
            self._reported_day = until // _DAY_MS
            findings.append(self._of_day(until, sizes))
        self._metrics.observe(self.detector, sizes)
        return findings

    def _follow_versions(self) -> None:
        """Begin anew where another version is in service than the reference is of."""
        control = self._context.control()
        for name, version in self._served.versions.items():
            champion = control.deployment(name).champion
            if champion is not None and champion.version != version:
                log.info("%s@%d is in service: drift is held to its reference", name, version)
                served = served_reference(self._pipeline, self._context.registry, control)
                if served.versions != self._served.versions:
                    self._begin(served)
                return

    def _sizes(self, until_ms: int) -> dict[str, tuple[float, float]]:
        """Series → index of the window before *until_ms*, and its limit."""
        detector = self.detector
        sizes = detector.sizes(until_ms // HOUR_MS)
        limits = detector.ordinary.psi_limit_of(sizes.counts.sum(axis=1))
        return {
            label(series): (float(psi), float(limit))
            for series, psi, limit in zip(
                detector.reference.series, sizes.psi, limits, strict=True
            )
            if np.isfinite(psi) and np.isfinite(limit)
        }  # fmt: skip

    def _finding(self, found: Finding) -> MonitorFinding:
        record = {
            "kind": DRIFT, "pipeline": self._pipeline.name, "sentence": found.sentence,
            "since": rfc3339_time(found.since_ms), "seen": rfc3339_time(found.seen_ms),
            "what": found.kind, **found.model_dump(exclude={"kind", "since_ms", "seen_ms"}),
        }  # fmt: skip
        return MonitorFinding(DRIFT, f"{DRIFT}/{found.source}/{found.series}", orjson.dumps(record))

    def _of_day(self, until_ms: int, sizes: Mapping[str, tuple[float, float]]) -> MonitorFinding:
        at = rfc3339_time(until_ms)
        record = {
            "kind": DRIFT_SIZES, "pipeline": self._pipeline.name, "at": at,
            "series": {
                name: {"psi": round(psi, 6), "limit": round(limit, 6)}
                for name, (psi, limit) in sizes.items()
            },
            "learning": self.detector.learning, "lacking": dict(self._served.lacking),
            "late_rows": self.detector.late_rows,
        }  # fmt: skip
        return MonitorFinding(DRIFT_SIZES, f"{DRIFT_SIZES}/{at[:10]}", orjson.dumps(record))

    async def act(self) -> None:
        """A drift only alerts: it may be a real wave that the model sees rightly."""

    def snapshot(self) -> bytes:
        """The detector, rows that wait, and how far partitions are."""
        parts = [
            orjson.dumps({
                "newest": {str(part): at for part, at in self._newest.items()},
                "day": self._reported_day, "versions": dict(self._served.versions),
            }),
            self.detector.to_bytes(), self._waiting.to_bytes(),
        ]  # fmt: skip
        return b"".join(_LENGTH.pack(len(part)) + part for part in parts)

    def restore(self, state: bytes) -> None:
        """Go on from a snapshot of the same versions. Raises ValueError."""
        try:
            parts, at = [], 0
            for _ in range(3):
                (length,) = _LENGTH.unpack_from(state, at)
                at += _LENGTH.size
                parts.append(state[at : at + length])
                at += length
            about = orjson.loads(parts[0])
            if about["versions"] != dict(self._served.versions):
                raise ValueError("it is of other versions")
            detector = DriftDetector.from_bytes(parts[1])
            waiting = WaitingRows()
            waiting.restore(parts[2])
            self._newest = {int(part): int(at) for part, at in about["newest"].items()}
            self._reported_day = int(about["day"])
        except (KeyError, ValueError, OSError, struct.error) as exc:
            raise ValueError(f"no state of drift: {exc}") from exc
        self.detector, self._waiting = detector, waiting
