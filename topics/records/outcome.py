"""Outcomes: the true labels of events, published when they are known.

    {"transaction_id": "tx-1", "occurred_at": "…Z", "customer_id": "c-7", "terminal_id": "t-3",
     "outcome": true}

An outcome repeats its event's id, key and time, and the fields that windowed features of
outcomes are keyed by. Its record key is its event's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from topics.pipeline import EventField, EventSchema, Pipeline

OUTCOME = "outcome"


def outcome_fields(pipeline: Pipeline) -> list[str]:
    """The event fields that an outcome repeats."""
    keys = [pipeline.entity(spec.name) for spec in pipeline.components if spec.windowed]
    event = pipeline.event
    return list(dict.fromkeys([event.id, event.time, event.key, *keys]))


def outcome_schema(pipeline: Pipeline) -> EventSchema:
    """The schema of the records on `<pipeline>.outcomes`."""
    event = pipeline.event
    needed = outcome_fields(pipeline)
    fields = {
        name: field if name in needed else field.model_copy(update={"optional": True})
        for name, field in event.fields.items()
    }
    return event.model_copy(update={
        "fields": {**fields, OUTCOME: EventField(type="boolean")},
        # When its event happened is all that an outcome's time says: another would be made up. Its
        # record key says nothing: outcomes are repartitioned anyway.
        "beyond_future": "refuse", "keys": "accept",
    })  # fmt: skip


def outcome_of(
    fields: Sequence[str], event: Mapping[str, object], *, label: bool
) -> dict[str, object]:
    """The outcome of *event*, as its record's value; *fields* are its `outcome_fields`."""
    return {**{name: event[name] for name in fields}, OUTCOME: label}
