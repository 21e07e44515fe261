from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.alignment import MISSING
from agents.join import Joined, PartitionJoin
from tests.unit.stage_batches import batch_of
from topics.stage_batch import ModelRef

DEADLINE_S = 1.0
STALL_S = 10.0


def new_join(
    stages: Sequence[str] = ("a", "b"), *, done: int = -1, rows: int = 1000
) -> PartitionJoin:
    return PartitionJoin(
        stages, done=done, now=0.0, deadline_s=DEADLINE_S, stall_timeout_s=STALL_S, max_rows=rows
    )


def offsets(joined: Joined | None) -> list[int]:
    return [] if joined is None else joined.rows.offsets.tolist()


def test_rows_leave_when_every_stage_has_them() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1, 2]), ("ta", 1), 0.0)
    assert join.pop(0.0) is None
    join.push(batch_of("b", [0, 1]), ("tb", 1), 0.0)
    joined = join.pop(0.0)
    assert offsets(joined) == [0, 1]
    assert joined is not None
    assert joined.positions == {"tb": 1}, "a's batch is not used up"
    assert all(stage.present.all() for stage in joined.stages.values())


def test_a_position_is_given_when_the_last_row_of_its_batch_leaves() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1, 2]), ("ta", 7), 0.0)
    join.push(batch_of("b", [0, 1]), ("tb", 3), 0.0)
    join.pop(0.0)
    join.push(batch_of("b", [2]), ("tb", 4), 0.0)
    joined = join.pop(0.0)
    assert joined is not None
    assert joined.positions == {"ta": 7, "tb": 4}


def test_after_the_deadline_rows_leave_without_the_missing_stage() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1]), ("ta", 1), 0.0)
    assert join.pop(0.9) is None
    joined = join.pop(1.0)
    assert offsets(joined) == [0, 1]
    assert joined is not None
    assert not joined.stages["b"].present.any()
    assert joined.failures()[0].error == MISSING
    assert joined.failures()[0].component == "b"


def test_a_stage_that_comes_too_late_is_dropped_and_counted() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1]), ("ta", 1), 0.0)
    join.pop(1.0)
    join.push(batch_of("b", [0, 1]), ("tb", 1), 1.5)
    late = join.pop(1.5)
    assert offsets(late) == []
    assert late is not None
    assert late.positions == {"tb": 1}, "its input is used up all the same"
    assert join.late_rows == 2


def test_the_deadline_counts_from_a_rows_first_arrival() -> None:
    join = new_join(["a", "b", "c"])
    join.push(batch_of("a", [0]), ("ta", 1), 0.0)
    join.push(batch_of("b", [0, 1]), ("tb", 1), 0.8)
    joined = join.pop(1.0)
    assert offsets(joined) == [0], "row 1 arrived at 0.8"
    assert joined is not None
    assert joined.stages["b"].present.tolist() == [True]
    assert offsets(join.pop(1.8)) == [1]


def test_backlog_waits_for_a_stage_that_makes_progress() -> None:
    join = new_join()
    join.push(batch_of("a", list(range(10)), backlog=True), ("ta", 1), 0.0)
    join.push(batch_of("b", [0, 1], backlog=True), ("tb", 1), 5.0)
    assert offsets(join.pop(5.0)) == [0, 1]
    assert join.pop(14.9) is None, "b made progress less than the stall timeout ago"
    assert offsets(join.pop(15.1)) == list(range(2, 10)), "b is stalled"


def test_an_idle_stage_is_not_stalled_when_backlog_arrives() -> None:
    join = new_join()
    join.push(batch_of("a", [0], backlog=True), ("ta", 1), 1000.0)
    assert join.pop(1002.0) is None
    assert offsets(join.pop(1010.1)) == [0]


def test_a_live_row_behind_waiting_backlog_waits_too() -> None:
    join = new_join()
    join.push(batch_of("a", [0], backlog=True), ("ta", 1), 0.0)
    join.push(batch_of("a", [1]), ("ta", 2), 0.0)
    assert join.pop(5.0) is None, "order: row 1 may not leave before row 0"


def test_rows_that_are_already_written_are_dropped() -> None:
    join = new_join(done=5)
    join.push(batch_of("a", [4, 5, 6]), ("ta", 1), 0.0)
    join.push(batch_of("b", [5, 6]), ("tb", 1), 0.0)
    assert offsets(join.pop(0.0)) == [6]


def test_a_batch_that_comes_twice_counts_once() -> None:
    join = new_join()
    for position in (1, 2):
        join.push(batch_of("a", [0, 1]), ("ta", position), 0.0)
    join.push(batch_of("b", [0, 1]), ("tb", 1), 0.0)
    joined = join.pop(0.0)
    assert offsets(joined) == [0, 1]
    assert joined is not None
    assert joined.positions == {"ta": 2, "tb": 1}


def test_failures_keep_their_row_through_slicing_and_joining() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1, 2, 3], absent=[3]), ("ta", 1), 0.0)
    join.push(batch_of("b", [0, 1]), ("tb", 1), 0.0)
    join.pop(0.0)
    join.push(batch_of("b", [2, 3]), ("tb", 2), 0.0)
    joined = join.pop(0.0)
    assert joined is not None
    assert joined.stages["a"].present.tolist() == [True, False]
    assert joined.failures()[1].reason == "row 3"


def test_a_model_change_between_batches_is_kept_by_row() -> None:
    join = new_join(["a"])
    join.push(batch_of("a", [0, 1]), ("ta", 1), 0.0)
    join.push(batch_of("a", [2], model=ModelRef("a@2", "sha256:11", "fp32")), ("ta", 2), 0.0)
    joined = join.pop(0.0)
    assert joined is not None
    assert [(run.start, run.model.model) for run in joined.stages["a"].models] == [
        (0, "features@1"),
        (2, "a@2"),
    ]


def test_a_batch_without_any_output_joins_others_of_another_width() -> None:
    join = new_join(["a"])
    join.push(batch_of("a", [0], absent=[0]), ("ta", 1), 0.0)
    join.push(batch_of("a", [1], width=5), ("ta", 2), 0.0)
    joined = join.pop(0.0)
    assert joined is not None
    assert joined.stages["a"].output.shape == (2, 5)


def test_source_offsets_that_nobody_answers_for_are_counted() -> None:
    join = new_join(["a"], done=9)
    join.push(batch_of("a", [10, 11], covers_from=10), ("ta", 1), 0.0)
    joined = join.pop(0.0)
    assert joined is not None
    assert joined.unaccounted == 0
    join.push(batch_of("a", [20], covers_from=18), ("ta", 2), 0.0)
    joined = join.pop(0.0)
    assert joined is not None
    assert joined.unaccounted == 6


def test_a_compacted_gap_inside_what_a_batch_covers_is_no_loss() -> None:
    join = new_join(["a"], done=9)
    join.push(batch_of("a", [15, 20], covers_from=10), ("ta", 1), 0.0)
    joined = join.pop(0.0)
    assert joined is not None
    assert joined.unaccounted == 0


def test_a_stage_that_runs_ahead_is_full() -> None:
    join = new_join(rows=3)
    join.push(batch_of("a", [0, 1, 2]), ("ta", 1), 0.0)
    assert join.full_stages() == {"a"}


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[str, list[int]]]:
    """Batches of three stages over the same source offsets, in an order that keeps each stage's."""
    source = draw(st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True).map(sorted))
    batches: dict[str, list[list[int]]] = {}
    for stage in ("a", "b", "c"):
        cuts = sorted(draw(st.sets(st.integers(1, max(1, len(source) - 1)), max_size=5)))
        bounds = zip([0, *cuts], [*cuts, len(source)], strict=True)
        batches[stage] = [source[start:stop] for start, stop in bounds]
    turns = draw(st.permutations([stage for stage, parts in batches.items() for _ in parts]))
    return [(stage, batches[stage].pop(0)) for stage in turns]


@given(deliveries(), st.booleans())
def test_every_row_leaves_once_in_order_whatever_the_batches(
    delivered: list[tuple[str, list[int]]], twice: bool
) -> None:
    join = new_join(["a", "b", "c"])
    seen: list[int] = []
    for position, (stage, part) in enumerate(delivered):
        for _ in range(1 + twice):
            join.push(batch_of(stage, part), (stage, position), 0.0)
        while (joined := join.pop(0.0)) is not None:
            for rows in joined.stages.values():
                assert rows.present.all()
                expected = (joined.rows.offsets / 1000).astype(np.float32)
                np.testing.assert_array_equal(rows.signal, expected)
            assert joined.rows.ids.items() == [b"event-%d" % o for o in joined.rows.offsets]
            seen += offsets(joined)
    assert seen == sorted({offset for _, part in delivered for offset in part})
