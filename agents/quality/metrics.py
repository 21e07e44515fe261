"""What Prometheus sees of live quality: the newest window."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from topics.records import COMPOSED, QualityFinding


class QualityMetrics:
    """Of one pipeline; segments are on the topic alone, as they may be many."""

    def __init__(self, registry: CollectorRegistry, pipeline: str) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"anabranch_quality{name}", text, ("pipeline", *labels), registry=registry)

        self._pipeline = pipeline
        self._figure = gauge(
            "", "A figure of the newest matured window, and the bounds of its 95 % interval.",
            "subject", "figure", "bound",
        )  # fmt: skip
        self._estimated = gauge(
            "_estimated", "The same of the newest window, estimated before outcomes are there.",
            "subject", "figure", "bound",
        )  # fmt: skip
        self._promised = gauge(
            "_promised", "What the card of the model or of the weights promises.",
            "subject", "figure",
        )  # fmt: skip
        self._outside = gauge(
            "_outside", "1 where the whole interval is worse than promised, else 0.",
            "subject", "figure",
        )  # fmt: skip
        self._error = gauge(
            "_estimate_error", "Estimate less figure, of the newest matured window.",
            "subject", "figure",
        )  # fmt: skip
        self._known = gauge(
            "_known_share", "Share of a kind of decision of which it is known what came true.",
            "decision",
        )  # fmt: skip
        self._window = gauge(
            "_window_seconds", "Where the newest window ends, in seconds since 1970.", "state"
        )

    def observe(self, finding: QualityFinding, end_ms: int) -> None:
        """Show *finding*, on a window that ends at *end_ms*: the newest of its state."""
        self._window.labels(self._pipeline, finding.state).set(end_ms / 1000)
        is_matured = finding.state == "matured"
        gauge = self._figure if is_matured else self._estimated
        for gone in (gauge, *((self._promised, self._outside, self._error) if is_matured else ())):
            gone.clear()
        for each in finding.subjects:
            if "=" in each.subject and each.subject != COMPOSED:
                continue
            for name, figure in each.figures.items():
                for bound in ("value", "low", "high"):
                    if (value := getattr(figure, bound)) is not None:
                        gauge.labels(self._pipeline, each.subject, name, bound).set(value)
            for name, promise in each.promised.items() if is_matured else ():
                self._promised.labels(self._pipeline, each.subject, name).set(promise)
                self._outside.labels(self._pipeline, each.subject, name).set(name in each.outside)
            for name, error in each.estimate_error.items():
                self._error.labels(self._pipeline, each.subject, name).set(error)
        for decision, of in finding.coverage.items() if is_matured else ():
            self._known.labels(self._pipeline, decision).set(of.known / of.decisions)
