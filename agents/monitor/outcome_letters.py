"""Dead letters of outcomes: the record as it was, and in headers why it is dead.

They stand on `<pipeline>.outcomes.dead-letters`. On `<pipeline>.dead-letters` each record ends an
event, and the audit counts it so; an outcome is the end of none. Once its decision is there,
`anabranch dead-letters redrive-outcomes` publishes it again (`agents.redrive.outcome_redrive`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from agents.monitor.decision_store import DeadOutcome
from agents.monitor.monitor_writer import PartitionRecords
from topics.events import DecodedOutcomes
from topics.kafka import Record
from topics.pipeline import MONITOR, Topology
from topics.records import NO_DECISION, Failure, rfc3339_time
from topics.records.dead_letter import dead_letter

_MOST_BYTES = 900_000
"""A record that is larger is not repeated: it stands at its coordinates."""


def refused_outcomes(
    topology: Topology, decoded: DecodedOutcomes, records: Sequence[Any], now_ms: int
) -> list[PartitionRecords]:
    """Letters of those of *records* that are no outcomes."""
    letters = [
        _letter(
            topology, Failure(0, MONITOR, failure.error, failure.reason), decoded.partition,
            (each := records[failure.row]).offset, (each.key, each.value, each.headers),
            each.timestamp, now_ms,
        )
        for failure in decoded.failures
    ]  # fmt: skip
    return [PartitionRecords(topology.outcome_letters, decoded.partition, letters)]


def unmatched_outcomes(
    topology: Topology, dead: Iterable[DeadOutcome], now_ms: int
) -> list[PartitionRecords]:
    """Letters of outcomes that no decision was found for, by partition."""
    by_partition: dict[int, list[Record]] = {}
    for each in dead:
        why = "of its time" if each.error == NO_DECISION else "yet, and others wait for theirs"
        reason = (
            f"no decision about its event of {rfc3339_time(each.event_ms)} was found {why}: see "
            "that it repeats the event's id and key; once it is decided, anabranch dead-letters "
            f"redrive-outcomes {topology.pipeline}"
        )
        by_partition.setdefault(each.partition, []).append(_letter(
            topology, Failure(0, MONITOR, each.error, reason), each.partition, each.offset,
            (each.key, each.value, ()), each.published_ms, now_ms,
        ))  # fmt: skip
    return [
        PartitionRecords(topology.outcome_letters, partition, letters)
        for partition, letters in sorted(by_partition.items())
    ]


def _letter(
    topology: Topology, why: Failure, partition: int, offset: int, original: Any,
    published_ms: int, now_ms: int,
) -> Record:  # fmt: skip
    source = (topology.outcomes, partition, offset)
    letter = dead_letter(why, source, original, now_ms, published_ms=published_ms)
    if letter.size <= _MOST_BYTES:
        return letter
    return dead_letter(why, source, None, now_ms, published_ms=published_ms)
