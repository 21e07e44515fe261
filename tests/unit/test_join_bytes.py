"""What a join holds is bounded in bytes, whatever the rows are; and one width leaves at a time."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from agents.join.partition_join import PartitionJoin
from agents.join.stage_rows import aligned
from tests.unit.stage_batches import batch_of
from tests.unit.test_join import anyone, at, offsets
from topics.records.bytes_column import BytesColumn
from topics.records.stage_batch import Failure, StageBatch
from topics.records.wire import decode, encode

MAX_BYTES = 16 * 2**20
COLUMNS = 1617


def new_join(max_bytes: int = MAX_BYTES, **lanes: int) -> PartitionJoin:
    return PartitionJoin(
        ["a", "b"], done=-1, at=at(0), stall_timeout_s=10.0, max_rows=50_000, max_bytes=max_bytes,
        lanes=lanes,
    )  # fmt: skip


def record_of(stage: str, rows: range, columns: int) -> tuple[bytes, dict[str, bytes]]:
    """A stage's record, as a fetch brings it."""
    value, headers = encode(batch_of(stage, rows, width=columns))
    return value, dict(headers)


def push(join: PartitionJoin, stage: str, rows: range, columns: int) -> None:
    value, headers = record_of(stage, rows, columns)
    join.push(decode(value, headers), (stage, rows.stop), at(0), len(value))


def test_an_input_that_is_ahead_is_paused_by_its_bytes_and_read_on_when_half_have_left() -> None:
    join, read = new_join(), 0
    while "a" not in join.full_inputs():
        push(join, "a", range(read, read + 100), COLUMNS)
        read += 100
    assert read == 2500, "25 records of 671,000 bytes, with what they take besides, are 16 MiB"
    for start in range(0, 1200, 100):
        push(join, "b", range(start, start + 100), 1)
        assert join.full_inputs() == {"a"}
        while join.pop():
            pass
    push(join, "b", range(1200, 1400), 1)
    assert offsets(join.pop()) == [*range(1200, 1400)]
    assert join.full_inputs() == set()
    assert join.bytes_of("b") == 0


def test_the_input_that_is_behind_is_never_paused_however_much_is_held() -> None:
    join = new_join(max_bytes=1)
    push(join, "a", range(100), COLUMNS)
    assert join.full_inputs() == {"a"}
    push(join, "b", range(50), COLUMNS)
    assert join.full_inputs() == {"a"}, "it is the slower one, and full all the same"


@pytest.mark.parametrize("columns", [1, COLUMNS])
def test_the_memory_of_what_is_held_and_of_what_leaves_is_within_the_bound(columns: int) -> None:
    count = 100 if columns == COLUMNS else 20
    tracemalloc.start()
    try:
        join, read = new_join(), 0
        while "a" not in join.full_inputs():
            push(join, "a", range(read, read + count), columns)
            read += count
        held, _ = tracemalloc.get_traced_memory()
        assert MAX_BYTES / 2 < held < MAX_BYTES * 1.1, "the estimate is near what it takes"
        tracemalloc.reset_peak()
        push(join, "b", range(read), 1)  # all that it lacks, at once
        left = 0
        while joined := join.pop():
            left += len(joined.rows)
        assert left == read
        _, peak = tracemalloc.get_traced_memory()
        assert peak < MAX_BYTES * 2, "what leaves is copied a part at a time"
    finally:
        tracemalloc.stop()


def test_lanes_that_are_ahead_of_one_are_read_again_when_their_bytes_are_too_many() -> None:
    join = new_join(max_bytes=100_000, b=2)
    push(join, "a", range(10), 1)
    for start in range(0, 40, 10):
        batch = replace(batch_of("b", range(start, start + 10)), lane=1)
        join.push(batch, ("b", start + 10), at(0), 60_000)
    assert join.bytes_of("b") < 140_000, "two of four are held"
    assert join.read_again() == {}, "there is no room yet"
    behind = replace(batch_of("b", [0])[:0], lane=0, covers_to=39)
    join.push(behind, ("b", 41), at(0), 1000)
    assert offsets(join.pop()) == [*range(10)]
    push(join, "a", range(10, 20), 1)
    assert offsets(join.pop()) == [*range(10, 20)]
    assert join.read_again() == {"b": 29}, "from the first that was not held"


def wide(rows: range, width: int, **changed: object) -> StageBatch:
    return replace(batch_of("a", rows, width=width), **changed)  # type: ignore[arg-type]


def test_rows_of_two_widths_leave_one_after_the_other_and_none_is_lost() -> None:
    join = new_join()
    join.push(wide(range(3), 2), ("a", 1), at(0))
    join.push(wide(range(3, 5), 3), ("a", 2), at(0))
    join.push(wide(range(5, 8), 3), ("a", 3), at(0))
    join.push(batch_of("b", range(8)), ("b", 1), at(0))
    first, second = join.pop(), join.pop()
    assert (offsets(first), offsets(second)) == ([0, 1, 2], [3, 4, 5, 6, 7])
    assert first is not None
    assert second is not None
    assert [each.stages["a"].output.shape[1] for each in (first, second)] == [2, 3]
    assert first.stages["a"].present.all()
    assert second.stages["a"].present.all()


def test_so_do_rows_that_leave_without_an_answer() -> None:
    join = new_join()
    join.push(wide(range(3), 2), ("a", 1), at(0))
    join.push(wide(range(3, 5), 3), ("a", 2), at(0))
    assert offsets(join.close(at(20), anyone)) == [0, 1, 2]
    assert offsets(join.close(at(20), anyone)) == [3, 4]


def test_rows_beside_others_of_more_columns_are_absent_and_say_why() -> None:
    narrow, full = batch_of("a", [0, 2, 4], absent=[2], width=2), batch_of("a", [1, 3], width=3)
    rows = aligned([narrow, full], np.arange(5))
    assert rows.present.tolist() == [False, True, False, True, False]
    assert rows.output.shape == (5, 3)
    assert not rows.output[[0, 2, 4]].any()
    assert rows.delivered.all()
    reason = "2 output columns where rows beside it have 3"
    assert rows.failures == (
        Failure(0, "a", "InvalidOutput", reason), Failure(2, "a", "ValueError", "row 2"),
        Failure(4, "a", "InvalidOutput", reason),
    )  # fmt: skip


def test_a_batch_without_any_output_has_any_width() -> None:
    nothing, full = batch_of("a", [0], absent=[0], width=1), batch_of("a", [1], width=3)
    rows = aligned([nothing, full], np.arange(2))
    assert rows.present.tolist() == [False, True]
    assert [failure.error for failure in rows.failures] == ["ValueError"]


def test_ids_and_failures_count_too() -> None:
    join = new_join()
    batch = batch_of("a", range(1000), absent=range(1000))
    rows = replace(batch.rows, ids=BytesColumn.of([b"%d" % row for row in range(1000)]))
    join.push(replace(batch, rows=rows), ("a", 1), at(0))
    assert join.bytes_of("a") > 500_000
