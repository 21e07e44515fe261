"""Every Prometheus metric of a worker process.

What counts is a counter, also where it should never count: a gauge that starts anew with its
process hides what `increase()` shows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from topics.transport import PartitionBacklog

Floats = NDArray[np.float64]
M = TypeVar("M", bound=MetricWrapperBase)

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_EXPLANATION_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
_DISTANCES = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
_ROWS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
_SCORES = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98,
    0.99, 1,
)  # fmt: skip
"""Close at both ends, where most scores of rare things are, and of frequent ones."""
_LABELS = ("pipeline", "component")


class BulkHistogram(Histogram):
    """A histogram that takes many values at once: one by one they cost more than a decision."""

    def observe_all(self, values: Floats) -> None:
        """Observe every one of *values* (N,)."""
        bounds = np.array(self._upper_bounds)
        counts = np.bincount(bounds.searchsorted(values), minlength=len(bounds))
        for bucket in np.flatnonzero(counts).tolist():
            self._buckets[bucket].inc(int(counts[bucket]))
        self._sum.inc(float(values.sum()))


class PartitionBacklogs(Collector):
    """What is left to do of each partition that this process owns, as it was last looked at.

    Not gauges: a partition that has another owner now must be gone from here at once, or it would
    be counted twice; and a record grows older from scrape to scrape.
    """

    def __init__(self) -> None:
        self._backlogs: dict[tuple[str, str], Sequence[PartitionBacklog]] = {}

    def put(self, pipeline: str, component: str, backlogs: Sequence[PartitionBacklog]) -> None:
        """What there is of a component, instead of what there was."""
        self._backlogs[pipeline, component] = backlogs

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Records and ages, by topic and partition."""
        by = (*_LABELS, "topic", "partition")
        records = GaugeMetricFamily(
            "anabranch_partition_lag_records",
            "Records of a partition that wait to be dealt with",
            labels=by,
        )
        ages = GaugeMetricFamily(
            "anabranch_oldest_record_seconds",
            "Age of the oldest record of a partition that waits to be dealt with; 0 without any",
            labels=by,
        )
        now_ms = time.time() * 1000
        for component, backlogs in list(self._backlogs.items()):
            for backlog in backlogs:
                labels = (*component, backlog.topic, str(backlog.partition))
                oldest_ms = now_ms if backlog.oldest_ms is None else backlog.oldest_ms
                records.add_metric(labels, backlog.records)
                ages.add_metric(labels, max(0.0, (now_ms - oldest_ms) / 1000))
        yield records
        yield ages


class Metrics:
    """Every metric of one process, on a registry of its own."""

    def __init__(self) -> None:
        self.registry = on = CollectorRegistry()
        ProcessCollector(registry=on)  # CPU, memory and open files, as process_…
        self.rows = Counter(
            "anabranch_rows_total", "Rows dealt with", (*_LABELS, "outcome"), registry=on
        )
        self.failed = Counter(
            "anabranch_rows_failed_total",
            "Rows without an output",
            (*_LABELS, "error"),
            registry=on,
        )
        self.skipped = Counter(
            "anabranch_skipped_records_total",
            "Records that are no stage batch",
            _LABELS,
            registry=on,
        )
        self.batch_rows = Histogram(
            "anabranch_batch_rows", "Rows per fetch", _LABELS, buckets=_ROWS, registry=on
        )
        self.stage_seconds = Histogram(
            "anabranch_stage_seconds",
            "From fetch to output on the broker",
            _LABELS,
            buckets=_SECONDS,
            registry=on,
        )
        self.inference_seconds = Histogram(
            "anabranch_inference_seconds",
            "Time in the component's transform",
            _LABELS,
            buckets=_SECONDS,
            registry=on,
        )
        self.decision_seconds = BulkHistogram(
            "anabranch_event_to_decision_seconds",
            "From the event's publication to its decision",
            ("pipeline",),
            buckets=_SECONDS,
            registry=on,
        )
        self.late = Counter(
            "anabranch_late_rows_total",
            "Events and outcomes behind their entity's newest (late), and so far that they do not "
            "count in windows (too_late), or dropped because there were too many (truncated); "
            "those that a worker takes in again after another count again",
            (*_LABELS, "history", "kind"),
            registry=on,
        )
        self.future = Counter(
            "anabranch_future_events_total",
            "Events whose time is further ahead of their record's than `future`: clipped, or "
            "refused",
            (*_LABELS, "outcome"),
            registry=on,
        )
        self.odd_keys = Counter(
            "anabranch_odd_keys_total",
            "Events whose record key is missing, or other than the event's key",
            (*_LABELS, "kind"),
            registry=on,
        )
        self.placed_keys = Counter(
            "anabranch_placed_keys_total",
            "Of some events of each partition: those that are where others of their key go "
            "(alike), and those that another partitioner has placed (elsewhere)",
            (*_LABELS, "placed"),
            registry=on,
        )
        self.early = Counter(
            "anabranch_early_rows_total",
            "Rows that did not wait for a source that is down: their windows may lack its rows",
            _LABELS,
            registry=on,
        )
        self.late_answers = Counter(
            "anabranch_late_answers_total",
            "Rows that a stage answered after they had ended without it",
            _LABELS,
            registry=on,
        )
        self.remembered = Gauge(
            "anabranch_history_entries",
            "Events and outcomes in memory for windowed features",
            (*_LABELS, "partition", "history"),
            registry=on,
        )
        self.lag = Gauge(
            "anabranch_consumer_lag_records",
            "Records that wait to be dealt with",
            _LABELS,
            registry=on,
        )
        self.backlogs = PartitionBacklogs()
        on.register(self.backlogs)
        self.rebalances = Counter(
            "anabranch_rebalances_total",
            "How often partitions were dealt out to this worker: once at its start, and whenever "
            "one comes or goes",
            _LABELS,
            registry=on,
        )
        self.partitions = Gauge(
            "anabranch_partitions",
            "Partitions that this worker owns, by what it does with them: starting, working, "
            "waiting",
            (*_LABELS, "state"),
            registry=on,
        )
        self.partitions_to_own = Gauge(
            "anabranch_partitions_to_own",
            "Partitions of which each has to have an owner, of every component of the pipeline "
            "file, whoever runs it",
            _LABELS,
            registry=on,
        )
        self.in_flight = Gauge(
            "anabranch_join_rows", "Rows that wait at the join", ("pipeline",), registry=on
        )
        self.waiting_rows = Gauge(
            "anabranch_waiting_rows",
            "Rows that wait for a stage",
            (*_LABELS, "stage"),
            registry=on,
        )
        self.waiting_seconds = Gauge(
            "anabranch_waiting_seconds",
            "For how long a stage that rows wait for has answered none, in the worst partition",
            (*_LABELS, "stage"),
            registry=on,
        )
        self.stage_down = Gauge(
            "anabranch_stage_down",
            "1 while a stage is down, as the component that reads it finds, else 0",
            (*_LABELS, "stage"),
            registry=on,
        )
        self.events = Counter(
            "anabranch_events_total", "Events by their end", ("pipeline", "outcome"), registry=on
        )
        self.dead_letters = Counter(
            "anabranch_dead_letters_total",
            "Events without a decision",
            ("pipeline", "stage", "error"),
            registry=on,
        )
        self.redriven = Counter(
            "anabranch_redriven_events_total",
            "Dead letters that went through the pipeline again, by their end",
            ("pipeline", "outcome"),
            registry=on,
        )
        self._count_decisions(on)
        self.explained = Counter(
            "anabranch_explained_decisions_total",
            "Decisions that an explanation was written of, by what was decided",
            ("pipeline", "decision"),
            registry=on,
        )
        self.unexplained = Counter(
            "anabranch_unexplained_decisions_total",
            "Decisions that were to be explained and are not, by why: shed for being too old, or "
            "what was gone",
            ("pipeline", "reason"),
            registry=on,
        )
        self.explanation_seconds = BulkHistogram(
            "anabranch_explanation_seconds",
            "From a decision to its explanation",
            ("pipeline",),
            buckets=_EXPLANATION_SECONDS,
            registry=on,
        )
        self.decided_at = Gauge(
            "anabranch_last_decision_timestamp_seconds",
            "When this worker has last decided an event, in seconds since 1970",
            ("pipeline",),
            registry=on,
        )
        self.unaccounted = Counter(
            "anabranch_unaccounted_events_total",
            "Events that ended in neither decision nor dead letter",
            ("pipeline",),
            registry=on,
        )
        self.topic_mismatch = Gauge(
            "anabranch_topic_mismatch",
            "1 while a worker refuses a topic: it was made anew, is gone, or has other partitions",
            ("pipeline", "topic", "reason"),
            registry=on,
        )
        self.weight = Gauge("anabranch_weight", "Weight α of a stage", _LABELS, registry=on)
        self.swaps = Counter(
            "anabranch_swaps_total",
            "Models, weights and policies put into service while events flow, or refused",
            (*_LABELS, "result"),
            registry=on,
        )
        self.fused = Gauge(
            "anabranch_fused_session",
            "1 while the components that a worker fuses run in one session, 0 while one by one",
            _LABELS,
            registry=on,
        )
        self.shadow_rows = Counter(
            "anabranch_shadow_rows_total",
            "Rows that a challenger ran on too: signals on one side of all thresholds, or not",
            (*_LABELS, "version", "agreement"),
            registry=on,
        )
        self.shadow_difference = BulkHistogram(
            "anabranch_shadow_difference",
            "Distance of a challenger's signal from the champion's",
            (*_LABELS, "version"),
            buckets=_DISTANCES,
            registry=on,
        )
        self.canary_rows = Counter(
            "anabranch_canary_rows_total",
            "Rows by whose output is used",
            (*_LABELS, "arm"),
            registry=on,
        )
        self.weights_version = Gauge(
            "anabranch_weights_version",
            "Version of the weights in use; 0 for weights fixed in the pipeline file",
            ("pipeline",),
            registry=on,
        )
        self.policy_version = Gauge(
            "anabranch_policy_version",
            "Version of the policy in use",
            ("pipeline",),
            registry=on,
        )
        self.other_models = Counter(
            "anabranch_rows_of_other_models_total",
            "Rows weighed with the output of a model that the weights were not learned for",
            _LABELS,
            registry=on,
        )
        self.spans_dropped = Counter(
            "anabranch_spans_dropped_total",
            "OpenTelemetry spans that were dropped: too many of a batch, no room in the queue, or "
            "not taken by the endpoint",
            ("pipeline", "reason"),
            registry=on,
        )
        self.model = Info("anabranch_model", "Model of a component", _LABELS, registry=on)

    def _count_decisions(self, on: CollectorRegistry) -> None:
        """What decisions there are."""
        self.degraded = Counter(
            "anabranch_degraded_decisions_total",
            "Decisions without every stage",
            ("pipeline",),
            registry=on,
        )
        self.missing_stages = Counter(
            "anabranch_missing_stages_total",
            "Decisions without this stage, by why: failed on the event, down, or late",
            (*_LABELS, "reason"),
            registry=on,
        )
        self.decisions = Counter(
            "anabranch_decisions_total",
            "Decisions by what was decided, and by what: the score, or that a stage was late",
            ("pipeline", "decision", "decided_by"),
            registry=on,
        )
        self.explorable = Counter(
            "anabranch_explorable_decisions_total",
            "Decisions that exploration applies to, by what the policy says: explored, or kept",
            ("pipeline", "decision", "result"),
            registry=on,
        )
        self.score = BulkHistogram(
            "anabranch_decision_score",
            "Scores of decisions, y = Σ α·y",
            ("pipeline",),
            buckets=_SCORES,
            registry=on,
        )
