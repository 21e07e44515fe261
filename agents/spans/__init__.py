"""OpenTelemetry spans of a share of the events, over all components, as one tree for each event.

`event_context` says which events are recorded and what their traces and spans are called: that
follows from their coordinates, so no component has to tell another. `recorder` is what components
call, `otel_recorder` makes spans of it, and `otel_export` sends them where the environment says.
Without an endpoint there, nothing of OpenTelemetry is loaded.
"""

from agents.spans.otel_export import opened_recorder
from agents.spans.recorder import NO_SPANS, RowEnd, SpanRecorder

__all__ = ["NO_SPANS", "RowEnd", "SpanRecorder", "opened_recorder"]
