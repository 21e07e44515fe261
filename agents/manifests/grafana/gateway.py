"""What is asked over HTTP, what is answered and when, and what is refused."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from agents.manifests.grafana.frame import framed
from agents.manifests.grafana.panels import (
    COUNT,
    EVENTS,
    REQUESTS,
    SECONDS,
    SHARE,
    Panel,
    Query,
    Text,
    lines,
    number,
)
from agents.manifests.grafana.scope import Scope

_CHOSEN = 'pipeline=~"$pipeline"'
_REQUESTS = f"rate(anabranch_gateway_requests_total{{{_CHOSEN}}}[$__rate_interval])"
_WAITED = f'{_CHOSEN},route=~"/predict|/invocations|/v2/.*/infer"'
"""What waits for decisions."""
_FAILS, _SLOW, _SHEDS = "AnabranchGatewayFails", "AnabranchGatewaySlow", "AnabranchGatewaySheds"


def gateway(scope: Scope) -> dashboard.Dashboard:
    """Requests by route and status, how long they take, and events whose callers wait."""
    return framed(
        scope,
        "gateway",
        "gateway",
        "Questions over HTTP: are they answered, and in time? Decisions take as long as the "
        "pipeline takes; where it is as fast as ever and answers are slow, it is the gateways.",
        [
            ("Gateway", [*_now(), *_asked()]),
            ("Answers", _answered()),
            ("Streams of decisions", _streamed()),
        ],
        component=False,
    )


def _now() -> list[Panel]:
    ready = Text(
        "Ready",
        "Gateways that would publish an event and have it decided. None: no broker, no weighting "
        "agent, or no gateway.",
        "AnabranchGatewayDown",
    )
    failed = Text(
        "Answered 5xx",
        "Share of requests in 5 minutes, without those of probes and scrapes. 504: no decision in "
        "time; 503: broker or pipeline are down; 500: its log has an error.",
        _FAILS,
    )
    waiting = Text(
        "Callers wait for",
        "Events without an answer yet, of all gateways. It grows with the rate and with the time "
        "that a decision takes; at --max-in-flight of one gateway requests get 429.",
        _SHEDS,
    )
    return [
        number(ready, COUNT, Query(f"sum(anabranch_gateway_ready{{{_CHOSEN}}})"), width=8),
        number(
            failed, SHARE,
            Query(f"max(pipeline:anabranch_gateway_failures:ratio_rate5m{{{_CHOSEN}}})"),
            limits=[0.01, 0.05], width=8,
        ),
        number(
            waiting, COUNT, Query(f"sum(anabranch_gateway_in_flight_events{{{_CHOSEN}}})"), width=8
        ),
    ]  # fmt: skip


def _asked() -> list[Panel]:
    routes = Text(
        "Requests by route and status",
        "A second. 4xx is what callers do wrong, of which 401 and 403 lack a key or its role; "
        "other is what has no route, or was refused before it had one.",
        "AnabranchGatewayRefusesKeys",
    )
    events = Text(
        "Events by what they came to",
        "A second: decided; dead: dead letters, 422; late: no decision within the deadline, 504; "
        "unconfirmed: the broker has not said that it has them, 503.",
        _FAILS,
    )
    came = f"rate(anabranch_gateway_events_total{{{_CHOSEN}}}[$__rate_interval])"
    return [
        lines(
            routes, REQUESTS,
            Query(f"sum by (pipeline, route, status) ({_REQUESTS})", "{{route}} {{status}}"),
            stacked=True,
        ),
        lines(
            events, EVENTS,
            Query(f"sum by (pipeline, outcome) ({came})", "{{pipeline}} {{outcome}}"),
            stacked=True,
        ),
    ]  # fmt: skip


def _answered() -> list[Panel]:
    quantiles = Text(
        "Time to the answer",
        "From a request's head to the end of its answer, interpolated within the histogram's "
        "buckets, of what waits for decisions. Hold it against the latency on the overview.",
        _SLOW,
    )
    waits = Text(
        "Events whose callers wait, by gateway",
        "One much above the others: connections are dealt out unevenly, or that gateway is slow.",
        _SHEDS,
    )
    repeats = Text(
        "Requests with a key",
        "A second, by what an Idempotency-Key was: new, a repeat that got the first one's answer, "
        "or taken over from a gateway that has ended. Many repeats: callers lose answers.",
        _FAILS,
    )
    waited = f"rate(anabranch_gateway_request_seconds_bucket{{{_WAITED}}}[$__rate_interval])"
    keyed = f"rate(anabranch_gateway_keyed_requests_total{{{_CHOSEN}}}[$__rate_interval])"
    shown = [
        Query(f"histogram_quantile({at}, sum by (le) ({waited}))", name)
        for at, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    ]
    in_flight = f"sum by (instance) (anabranch_gateway_in_flight_events{{{_CHOSEN}}})"
    return [
        lines(quantiles, SECONDS, *shown, width=8, limits=[0.6]),
        lines(waits, COUNT, Query(in_flight, "{{instance}}"), width=8),
        lines(
            repeats, REQUESTS,
            Query(f"sum by (pipeline, result) ({keyed})", "{{pipeline}} {{result}}"),
            width=8, stacked=True,
        ),
    ]  # fmt: skip


def _streamed() -> list[Panel]:
    streams = Text(
        "Streams, by gateway",
        "Callers of /decisions/stream that are connected. At --max-streams of one gateway more get "
        "429.",
        _SHEDS,
    )
    events = Text(
        "Events sent and shed",
        "A second. shed: what waited for callers that read too slowly, when they were sent away. "
        "They lose nothing if they come again with their last id while retention has it.",
        _SHEDS,
    )
    sent, shed = (
        f"sum by (pipeline) (rate(anabranch_gateway_{what}_events_total"
        f"{{{_CHOSEN}}}[$__rate_interval]))"
        for what in ("streamed", "shed")
    )
    return [
        lines(
            streams, COUNT,
            Query(
                f"sum by (pipeline, instance) (anabranch_gateway_streams{{{_CHOSEN}}})",
                "{{pipeline}} {{instance}}",
            ),
        ),
        lines(
            events, EVENTS, Query(sent, "{{pipeline}} sent"), Query(shed, "{{pipeline}} shed"),
        ),
    ]  # fmt: skip
