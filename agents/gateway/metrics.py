"""What the gateway counts for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from agents.gateway.predictions import Outcome

_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1, 2.5, 5, 10, 30, 60)
_OUTCOMES = {422: "dead", 503: "unconfirmed", 504: "late"}


class GatewayMetrics:
    """Of one gateway and its pipeline."""

    def __init__(
        self, pipeline: str, in_flight: Callable[[], int], ready: Callable[[], bool]
    ) -> None:
        # Or each counter and histogram has one more series, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client's
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        requests = Counter(
            "anabranch_gateway_requests", "Requests by route and status.",
            ("pipeline", "route", "status"), registry=self.registry,
        )  # fmt: skip
        seconds = Histogram(
            "anabranch_gateway_request_seconds", "From a request's head to the end of its answer.",
            ("pipeline", "route"), buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        events = Counter(
            "anabranch_gateway_events", "Events that were asked about, by what they came to.",
            ("pipeline", "outcome"), registry=self.registry,
        )  # fmt: skip
        gauge = Gauge(
            "anabranch_gateway_in_flight_events", "Events whose callers wait.",
            ("pipeline",), registry=self.registry,
        )  # fmt: skip
        gauge.labels(pipeline).set_function(in_flight)
        self._streams = Gauge(
            "anabranch_gateway_streams", "Streams of decisions that are open.",
            ("pipeline",), registry=self.registry,
        )  # fmt: skip
        self._streamed = Counter(
            "anabranch_gateway_streamed_events", "Events that were sent on streams.",
            ("pipeline",), registry=self.registry,
        ).labels(pipeline)  # fmt: skip
        self._shed_streams = Counter(
            "anabranch_gateway_shed_streams", "Streams ended as the caller read too slowly.",
            ("pipeline",), registry=self.registry,
        ).labels(pipeline)  # fmt: skip
        self._shed_events = Counter(
            "anabranch_gateway_shed_events", "Events that waited for these callers at their end.",
            ("pipeline",), registry=self.registry,
        ).labels(pipeline)  # fmt: skip
        up = Gauge(
            "anabranch_gateway_ready", "1 while events would be published and decided, else 0.",
            ("pipeline",), registry=self.registry,
        )  # fmt: skip
        up.labels(pipeline).set_function(ready)
        keyed = Counter(
            "anabranch_gateway_keyed_requests",
            "Requests with an Idempotency-Key: new, repeated, or taken over from one that ended.",
            ("pipeline", "result"), registry=self.registry,
        )  # fmt: skip
        self._keyed = {
            result: keyed.labels(pipeline, result) for result in ("new", "repeated", "taken_over")
        }
        self._pipeline, self._requests, self._seconds = pipeline, requests, seconds
        self._events = {
            outcome: events.labels(pipeline, outcome)
            for outcome in ("decided", *_OUTCOMES.values())
        }

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """A request is answered."""
        self._requests.labels(self._pipeline, route, str(status)).inc()
        self._seconds.labels(self._pipeline, route).observe(seconds)

    def observe_keyed(self, result: str) -> None:
        """A request with a key has found who publishes it, or did."""
        self._keyed[result].inc()

    def observe_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Events have come to something, or their callers wait no longer."""
        for outcome in outcomes:
            problem = outcome.problem
            name = "decided" if problem is None else _OUTCOMES[problem["status"]]
            self._events[name].inc()

    def count_streams(self, count: Callable[[], int]) -> None:
        """Have *count* say how many streams are open."""
        self._streams.labels(self._pipeline).set_function(count)

    def observe_streamed(self, events: int) -> None:
        """Events are sent on a stream."""
        self._streamed.inc(events)

    def observe_shed(self, events: int) -> None:
        """A stream ended as its caller read too slowly; so many events waited for it."""
        self._shed_streams.inc()
        self._shed_events.inc(events)
