"""Where spans go: to the OTLP endpoint that the environment names, or nowhere.

The variables are OpenTelemetry's own: `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) turns
it on, `OTEL_SDK_DISABLED=true` off. Spans wait in a bounded queue and are sent by a thread: what
has no room there, and what the endpoint does not take, is dropped and counted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from agents.spans.event_context import Sampling
from agents.spans.recorder import NO_SPANS, SpanRecorder
from topics.errors import InvalidSettings
from topics.pipeline import Pipeline

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

log = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTERS = {
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
}
CLOSE_MS = 2000
_QUEUE_SIZE = 2048
DropReason = Literal["batch", "queue", "export"]
Dropped = Callable[[DropReason, int], None]
"""Told how many spans were dropped, and why."""


def opened_recorder(
    pipeline: Pipeline, dropped: Dropped, environment: Mapping[str, str] = os.environ
) -> SpanRecorder:
    """What the environment asks for; without an endpoint in it, nothing is recorded.

    Raises InvalidSettings.
    """
    endpoint = _first(environment, _ENDPOINTS)
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if endpoint is None or disabled or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return NO_SPANS
    sampling = Sampling.of(environment)
    protocol = _first(environment, _PROTOCOLS) or "http/protobuf"
    try:
        from agents.spans.otel_recorder import OtelRecorder

        exporter: SpanExporter = import_module(_EXPORTERS[protocol]).OTLPSpanExporter()
    except KeyError:
        log.warning("no spans: the protocol %s of OTLP is none of %s", protocol, [*_EXPORTERS])
        return NO_SPANS
    except ImportError as exc:
        log.warning("no spans are sent to %s: pip install 'anabranch[otel]' (%s)", endpoint, exc)
        return NO_SPANS
    for reason in ("batch", "queue", "export"):
        dropped(reason, 0)
    # It says each failed attempt; ours is said once, and counted.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    counting = CountingExporter(exporter, endpoint, dropped)
    try:
        return OtelRecorder(pipeline, sampling, counting, _queue_size(environment), dropped)
    except ValueError as exc:  # of the SDK, about sizes and times that do not fit each other
        raise InvalidSettings([("OTEL_BSP_…", str(exc))]) from exc


class CountingExporter:
    """Sends spans, and counts those that are not taken."""

    def __init__(self, exporter: SpanExporter, endpoint: str, dropped: Dropped) -> None:
        self._exporter, self._endpoint, self._dropped = exporter, endpoint, dropped
        self._said = False
        self.taken = 0
        """Spans that have left the queue."""

    def export(self, spans: Sequence[ReadableSpan]) -> object:
        """Send spans; whatever comes of it, they are not sent again."""
        self.taken += len(spans)
        result: object = None
        try:
            result = self._exporter.export(spans)
            succeeded = getattr(result, "name", "") == "SUCCESS"
        except Exception as exc:  # of whatever carries them
            log.debug("spans are not taken: %s", exc)
            succeeded = False
        if not succeeded:
            self._dropped("export", len(spans))
            if not self._said:
                self._said = True
                log.warning(
                    "%s takes no spans; those that it does not take are dropped, and counted as "
                    "anabranch_spans_dropped_total", self._endpoint,
                )  # fmt: skip
        return result

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = CLOSE_MS) -> bool:
        """Nothing is kept here."""
        return self._exporter.force_flush(timeout_millis)


def _queue_size(environment: Mapping[str, str]) -> int:
    """How many spans may wait. Raises InvalidSettings."""
    text = environment.get("OTEL_BSP_MAX_QUEUE_SIZE") or str(_QUEUE_SIZE)
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise InvalidSettings([("OTEL_BSP_MAX_QUEUE_SIZE", "say a number of spans")])
    return int(text)


def _first(environment: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((value for name in names if (value := environment.get(name))), None)
