"""The way of one event through the topics, from its record to its end.

`event_search` finds the event that a person names, `tracer` follows it, `event_trace` is what comes
of that, `errors` say why it cannot be traced.
"""

from agents.trace.event_search import EventSearch
from agents.trace.event_trace import Attempt, DecisionEnd, EventTrace, Hop, LetterEnd, Place
from agents.trace.tracer import EventTracer

__all__ = [
    "Attempt", "DecisionEnd", "EventSearch", "EventTrace", "EventTracer", "Hop", "LetterEnd",
    "Place",
]  # fmt: skip
