"""A running audit as Prometheus metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from agents.audit import Audit


class AuditMetrics:
    """The result of the newest pass of an audit, on a registry of its own."""

    def __init__(self) -> None:
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
