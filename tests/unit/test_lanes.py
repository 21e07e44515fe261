"""Rows that were dealt out by another key, and come back to their source in several lanes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.join import Moment, PartitionJoin
from agents.stages.key_dealer import dealt
from tests.unit.stage_batches import batch_of
from topics.pipeline.topology import lane_of
from topics.records.bytes_column import BytesColumn
from topics.records.stage_batch import StageBatch
from topics.records.wire import decode, encode

NOW = Moment(0.0, 0.0, lambda _: False)


def join_of(lanes: int) -> PartitionJoin:
    return PartitionJoin(
        ["a", "b"], done=-1, at=NOW, stall_timeout_s=10.0, max_rows=1000,
        lanes={"b": lanes},
    )  # fmt: skip


def in_lanes(offsets: list[int], lanes: list[int], count: int) -> list[StageBatch]:
    batch = batch_of("b", offsets)
    entities = BytesColumn.of([b"e%d" % offset for offset in offsets])
    parts = dealt(replace(batch, entities=entities), np.array(lanes), count)
    return [replace(part, lane=lane) for lane, part in enumerate(parts)]


def test_rows_wait_for_the_lane_that_they_are_in_and_for_those_that_say_they_have_none() -> None:
    join = join_of(2)
    join.push(batch_of("a", [0, 1, 2]), ("ta", 1), NOW)
    first, second = in_lanes([0, 1, 2], [0, 0, 0], 2)
    join.push(first, ("tb", 1), NOW)
    assert join.pop() is None, "the other lane may have some of them"
    join.push(second, ("tb", 2), NOW)
    joined = join.pop()
    assert joined is not None
    assert joined.rows.offsets.tolist() == [0, 1, 2]
    assert joined.stages["b"].present.all()
    assert joined.positions == {"ta": 1, "tb": 2}
    assert joined.unaccounted == 0


def test_a_position_behind_a_batch_of_another_lane_that_is_not_used_up_is_not_given() -> None:
    join = join_of(2)
    early, late = in_lanes([0, 1], [0, 1], 2)
    join.push(in_lanes([0, 1, 2, 3], [0, 0, 0, 0], 2)[0], ("tb", 1), NOW)
    join.push(late, ("tb", 2), NOW)
    join.push(batch_of("a", [0, 1]), ("ta", 1), NOW)
    joined = join.pop()
    assert joined is not None
    assert joined.positions == {"ta": 1}, "the first batch of tb has rows left"
    assert len(early) == 1


@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_lanes_come_back_as_the_stage_that_was_dealt_out(
    rows: list[tuple[int, bool]], random: object
) -> None:
    join = join_of(4)
    whole = batch_of("b", list(range(len(rows))))
    cuts = [place for place, (_, cut) in enumerate(rows) if cut and place]
    batches = []
    for start, stop in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        lanes = [lane for lane, _ in rows[start:stop]]
        batches += in_lanes(list(range(start, stop)), lanes, 4)
    by_lane = [[batch for batch in batches if batch.lane == lane] for lane in range(4)]
    join.push(batch_of("a", list(range(len(rows)))), ("ta", 1), NOW)
    position = 0
    seen: list[int] = []
    signal: list[float] = []
    given_up: dict[object, int] = {}
    while any(by_lane):
        lane = random.choice([lane for lane in range(4) if by_lane[lane]])  # type: ignore[attr-defined]
        position += 1
        join.push(by_lane[lane].pop(0), ("tb", position), NOW)
        while (joined := join.pop()) is not None:
            seen += joined.rows.offsets.tolist()
            signal += joined.stages["b"].signal.tolist() if len(joined.rows) else []
            given_up.update(joined.positions)
            assert joined.unaccounted == 0
    assert seen == list(range(len(rows)))
    assert signal == whole.signal.tolist()
    assert given_up == {"ta": 1, "tb": position}


@given(st.lists(st.integers(0, 3), max_size=20))
def test_every_row_is_dealt_to_one_lane_and_every_lane_covers_all(lanes: list[int]) -> None:
    parts = in_lanes(list(range(5, 5 + len(lanes))), lanes, 4)
    assert sorted(o for part in parts for o in part.rows.offsets.tolist()) == list(
        range(5, 5 + len(lanes))
    )
    for part in parts:
        assert part.entities is not None
        assert part.entities.items() == [b"e%d" % offset for offset in part.rows.offsets.tolist()]
        if lanes:
            assert (part.covers_from, part.covers_to) == (5, 4 + len(lanes))


def test_a_lane_and_its_entities_travel_on_the_wire() -> None:
    for part in in_lanes([3, 4, 9], [1, 0, 1], 3):
        value, headers = encode(part)
        back = decode(value, dict(headers))
        assert (back.lane, back.covers_from, back.covers_to) == (part.lane, 3, 9)
        assert back.entities == part.entities


def test_an_entity_is_in_the_same_lane_in_every_process() -> None:
    assert [lane_of(f"t-{n}", 4) for n in range(8)] == [1, 3, 1, 3, 0, 2, 0, 2]
