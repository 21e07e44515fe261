"""Records about an event are found where they stand in its partition's order, by reading few."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from agents.explanations.event_records import EventRecords, first_reaching
from tests.unit.stage_batches import batch_of
from tests.unit.test_recorded_event import TOPOLOGY, Tail, decision
from tests.unit.topic_log import record
from topics.records.decision import Source
from topics.records.wire import encode

PLACE = Source(topic="p.events", partition=0, offset=5)


@dataclass
class CountingTail(Tail):
    """It counts the records that it gives."""

    given: int = 0

    async def between(
        self, topic: str, partition: int, start: int, end: int
    ) -> list[ConsumerRecord]:
        records = await super().between(topic, partition, start, end)
        self.given += len(records)
        return records


def tail_of(values: list[int | None], *, first: int = 0) -> CountingTail:
    """A partition of numbers that ascend, among records that say nothing."""
    tail = CountingTail()
    tail.write(
        record("p.risk", first + at, None if value is None else b"%d" % value)
        for at, value in enumerate(values)
    )
    return tail


async def first_at_least(tail: Tail, wanted: int, start: int = 0) -> int | None:
    def reaches(each: ConsumerRecord) -> bool | None:
        return None if each.value is None else int(each.value) >= wanted

    found = await first_reaching(tail, "p.risk", 0, start, reaches)  # type: ignore[arg-type]
    return None if found is None else int(found.offset)


@given(
    st.lists(st.none() | st.integers(0, 50), max_size=300),
    st.integers(-1, 51),
    st.integers(0, 300),
)
async def test_it_is_the_first_that_reading_all_would_find(
    values: list[int | None], wanted: int, start: int
) -> None:
    ascending = iter(sorted(value for value in values if value is not None))
    ordered = [None if value is None else next(ascending) for value in values]
    expected = next(
        (
            at for at, value in enumerate(ordered)
            if at >= start and value is not None and value >= wanted
        ),
        None,
    )  # fmt: skip
    assert await first_at_least(tail_of(ordered), wanted, start) == expected


async def test_of_a_hundred_thousand_records_few_are_read() -> None:
    tail = tail_of([*range(100_000)])
    assert await first_at_least(tail, 71_234) == 71_234
    assert tail.given < 200


async def test_an_event_has_the_decision_of_its_own_offset_and_no_neighbours() -> None:
    tail = Tail()
    tail.write(decision(offset, at) for at, offset in enumerate([3, 4, 5, 7]))
    records = EventRecords(tail, TOPOLOGY)  # type: ignore[arg-type]  # as far as it is asked
    ended = await records.decision(PLACE, None)
    assert ended is not None
    assert ended.offset == 2
    assert await records.decision(PLACE.model_copy(update={"offset": 6}), None) is None
    assert await records.decision(PLACE.model_copy(update={"offset": 8}), None) is None


async def test_a_batch_about_outcomes_is_none_about_the_event_of_the_same_offset() -> None:
    tail = Tail()
    for at, topic in enumerate(["p.outcomes", "p.events"]):
        value, headers = encode(replace(batch_of("terminals", [4, 5, 6]), topic=topic))
        tail.write([record("p.terminals.keyed", at, value, headers=headers, partition=1)])
    records = EventRecords(tail, TOPOLOGY)  # type: ignore[arg-type]  # as far as it is asked
    stage = await records.stage("p.terminals.keyed", PLACE, None, partition=1)
    assert stage is not None
    assert stage.record.offset == 1
    assert stage.row.rows.offsets.tolist() == [5]
