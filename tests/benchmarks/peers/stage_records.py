"""What the stages of w1 say to one another, for peers that handle events one by one: JSON."""

from __future__ import annotations

from typing import Any

import orjson

from tests.benchmarks.peers import card_fraud
from tests.benchmarks.peers.decisions import Origin

Record = dict[str, Any]


def featured(value: bytes, partition: int, offset: int, timestamp_ms: int) -> Record:
    """A valid event's features and origin; raises pydantic's ValidationError for any other."""
    event = card_fraud.validated(value)
    return {
        "id": event.transaction_id, "partition": partition, "offset": offset,
        "event_time": card_fraud.event_time(event), "timestamp_ms": timestamp_ms,
        "x": card_fraud.features(event),
    }  # fmt: skip


def with_signal(record: Record, signal: float) -> bytes:
    """The record with a stage's signal, as JSON."""
    return orjson.dumps(record | {"signal": signal})


def origin(record: Record) -> Origin:
    """What the decision says of the event."""
    return Origin(
        record["id"], record["partition"], record["offset"], record["event_time"],
        record["timestamp_ms"],
    )  # fmt: skip
