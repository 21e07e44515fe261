"""Outcomes: the true labels of events, published when they are known.

    {"transaction_id": "tx-1", "occurred_at": "…Z", "customer_id": "c-7", "terminal_id": "t-3",
     "outcome": true, "source": "chargeback", "known_at": "…Z"}

An outcome repeats its event's id, key and time, and the fields that windowed features of
outcomes are keyed by. Its record key is its event's. `source` says who says so, and `known_at`
since when it is known: by default nobody, and the time of the record.

An event may have several, of a system, an analyst, a bank: the one of the highest `OutcomeRank`
counts. Whatever order they are read in, that is the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from topics.pipeline import (
    OUTCOME,
    OUTCOME_KNOWN_AT,
    OUTCOME_SOURCE,
    EventField,
    EventSchema,
    Pipeline,
)

OUTCOME_REDRIVE = "x-outcome-redrive"
"""Header of an outcome that is published again: PARTITION/OFFSET of the record that died."""
NO_DECISION, NO_ROOM = "NoDecision", "NoRoom"
"""Why an outcome is dead: there was no decision in its time; or it had to make room."""
_LONGEST_SOURCE = 64


class OutcomeRank(NamedTuple):
    """What decides between outcomes of one event: the first field that differs, the greater wins.

    A weaker source never replaces a stronger one, whatever its time; of equally strong ones the
    later counts, at the same time the one that stands later on its partition.
    """

    strength: int
    """Of its source: 0 for one that the pipeline file does not list, or none."""
    known_ms: int
    partition: int
    offset: int


def outcome_strengths(pipeline: Pipeline) -> Mapping[str, int]:
    """Source → its strength; every other source has 0."""
    listed = pipeline.outcomes.sources
    return {source: len(listed) - place for place, source in enumerate(listed)}


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
    own = {
        OUTCOME: EventField(type="boolean"),
        OUTCOME_SOURCE: EventField(type="string", max_length=_LONGEST_SOURCE, optional=True),
        OUTCOME_KNOWN_AT: EventField(type="timestamp", optional=True),
    }
    return event.model_copy(update={
        "fields": {**fields, **own},
        # When its event happened is all that an outcome's time says: another would be made up. Its
        # record key says nothing: outcomes are repartitioned anyway.
        "beyond_future": "refuse", "keys": "accept",
    })  # fmt: skip


def outcome_of(
    fields: Sequence[str], event: Mapping[str, object], *, label: bool, source: str = "",
    known_at: str = "",
) -> dict[str, object]:  # fmt: skip
    """The outcome of *event*, as its record's value; *fields* are its `outcome_fields`.

    *known_at* is an RFC 3339 time; neither that nor *source* need be said.
    """
    said = {OUTCOME_SOURCE: source, OUTCOME_KNOWN_AT: known_at}
    return {
        **{name: event[name] for name in fields}, OUTCOME: label,
        **{name: text for name, text in said.items() if text},
    }  # fmt: skip
