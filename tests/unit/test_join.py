"""The join: what leaves it when, whatever comes in whichever order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.join import Moment, PartitionJoin
from agents.join.lane import SILENT_WORKERS
from agents.join.stage_rows import JoinedRows
from agents.workers.stage_pulse import WORKER_ENDED
from tests.unit.stage_batches import batch_of
from topics.records.heartbeat import Heartbeat
from topics.records.reports import State
from topics.records.stage_batch import Bools, Failure, ModelRef, StageBatch

STALL_S = 10.0
STARTED: tuple[State, ...] = ("starting", "working")


def at(seconds: float, *, unread: bool = False) -> Moment:
    return Moment(seconds, seconds, lambda _: unread)


def new_join(
    stages: Sequence[str] = ("a", "b"), *, done: int = -1, rows: int = 1000,
    lanes: dict[str, int] | None = None, source: str | None = None,
) -> PartitionJoin:  # fmt: skip
    return PartitionJoin(
        stages, done=done, at=at(0), stall_timeout_s=STALL_S, max_rows=rows, lanes=lanes,
        source=source,
    )  # fmt: skip


def beat(
    stage: str, frontier: int = -1, *, state: State = "working", down: bool = False,
    worker: str = "w", tried: tuple[int, int] | None = None, lane: int | None = None,
) -> Heartbeat:  # fmt: skip
    return Heartbeat(
        component=stage, partition=0, worker=worker, state=state, frontier=frontier,
        waiting_for=["x"] if state == "waiting" else [], down=down, tried=tried, lane=lane,
    )  # fmt: skip


def anyone(present: Bools) -> Bools:
    """One stage is enough."""
    return np.asarray(present.any(axis=1))


def the_second(present: Bools) -> Bools:
    """The second stage is needed."""
    return np.asarray(present[:, 1])


def offsets(joined: JoinedRows | None) -> list[int]:
    return [] if joined is None else joined.rows.offsets.tolist()


def test_rows_leave_when_every_stage_has_them() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1, 2]), ("ta", 1), at(0))
    assert join.pop() is None
    join.push(batch_of("b", [0, 1]), ("tb", 1), at(0))
    joined = join.pop()
    assert offsets(joined) == [0, 1]
    assert joined is not None
    assert joined.positions == {"tb": 1}, "a's batch is not used up"
    assert all(stage.present.all() for stage in joined.stages.values())


def test_a_position_is_given_when_the_last_row_of_its_batch_leaves() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1, 2]), ("ta", 7), at(0))
    join.push(batch_of("b", [0, 1]), ("tb", 3), at(0))
    join.pop()
    join.push(batch_of("b", [2]), ("tb", 4), at(0))
    joined = join.pop()
    assert joined is not None
    assert joined.positions == {"ta": 7, "tb": 4}


def test_time_alone_never_lets_a_row_leave_without_a_stage_that_lives() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1]), ("ta", 1), at(0))
    for second in range(0, 4000, 5):
        join.hear(beat("b"), ("tb", second + 1), at(second))
        assert offsets(join.pop()) == []
        assert join.close(at(second + 1), anyone) is None


def test_a_stage_that_gives_no_sign_of_life_is_down_and_its_rows_say_so() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1]), ("ta", 1), at(0))
    assert join.close(at(STALL_S), anyone) is None
    joined = join.close(at(STALL_S + 0.1), anyone)
    assert offsets(joined) == [0, 1]
    assert joined is not None
    assert joined.stages["b"].unanswered == "down"
    assert not joined.stages["b"].delivered.any()


def test_what_a_stage_has_written_and_nobody_has_read_yet_is_a_sign_of_life() -> None:
    join = new_join()
    join.push(batch_of("a", [0]), ("ta", 1), at(0))
    assert join.close(at(100, unread=True), anyone) is None
    assert offsets(join.close(at(100), anyone)) == [0]


def test_a_stage_that_waits_for_one_that_is_down_is_down_at_once() -> None:
    join = new_join()
    join.push(batch_of("a", [0]), ("ta", 1), at(0))
    join.hear(beat("b", state="waiting"), ("tb", 1), at(1))
    assert join.close(at(1), anyone) is None, "what it waits for lives"
    join.hear(beat("b", state="waiting", down=True), ("tb", 2), at(2))
    assert offsets(join.close(at(2), anyone)) == [0]
    join.push(batch_of("a", [1]), ("ta", 2), at(4))
    assert offsets(join.close(at(4), anyone)) == [1], "it is behind what has ended"


def test_a_row_with_news_waits_for_a_stage_to_say_once_more_that_its_input_is_down() -> None:
    """A row had no quorum without x. It is back and brings one; b, which reads it, is not yet."""
    join = new_join(["a", "x", "b"])
    join.push(batch_of("a", [0, 1]), ("ta", 1), at(0))
    join.hear(beat("x"), ("tx", 1), at(9))
    join.hear(beat("b", state="waiting", down=True), ("tb", 1), at(9))
    join.push(batch_of("a", [2]), ("ta", 2), at(9))
    join.push(batch_of("x", [0, 1, 2]), ("tx", 2), at(9))
    assert join.close(at(9), the_second) is None, "x is not down any more"
    join.hear(beat("b", state="waiting", down=True), ("tb", 2), at(9.1))
    assert offsets(join.close(at(9.1), the_second)) == [0, 1, 2], "then it is another input"


def test_a_stage_whose_workers_end_again_and_again_at_one_row_is_down() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1]), ("ta", 1), at(0))
    join.push(batch_of("b", [0]), ("tb", 1), at(0))
    assert offsets(join.pop()) == [0]
    for number in range(8):
        assert join.close(at(1), anyone) is None
        join.hear(beat("b", 0, worker=f"w{number}", tried=(1, 9)), ("tb", number + 2), at(1))
    assert offsets(join.close(at(1), anyone)) == [1]


def test_workers_that_answer_what_they_have_tried_are_not_down() -> None:
    join = new_join()
    join.push(batch_of("a", list(range(9))), ("ta", 1), at(0))
    for number in range(8):
        tried = beat("b", number - 1, worker=f"w{number}", tried=(number, 9))
        join.hear(tried, ("tb", 2 * number), at(1))
        assert join.close(at(1), anyone) is None
        join.push(batch_of("b", [number]), ("tb", 2 * number + 1), at(1))
        assert offsets(join.pop()) == [number]


def passed_over(row: int) -> StageBatch:
    """What a worker writes of a row that others have ended at."""
    failures = (Failure(0, "b", WORKER_ENDED, ""),)
    return replace(batch_of("b", [row], absent=[row]), failures=failures)


def test_a_stage_whose_workers_end_at_row_after_row_is_down_until_it_gets_on() -> None:
    join = new_join()
    join.push(batch_of("a", list(range(40))), ("ta", 1), at(0))
    position = 0

    def said(worker: int, row: int) -> None:
        nonlocal position
        position += 1
        tried = beat("b", row - 1, worker=f"w{worker}", tried=(row, row))
        join.hear(tried, ("tb", position), at(1))
        join.pop()

    for worker in range(8):  # every second one passes over a row, and ends at the next
        assert join.close(at(1), anyone) is None
        row = (worker + 1) // 2
        if worker % 2:
            said(worker, row - 1)
            join.push(passed_over(row - 1), ("tb", position := position + 1), at(1))
            assert offsets(join.pop()) == [row - 1]
        said(worker, row)
    assert offsets(join.close(at(1), anyone)) == list(range(4, 40))
    for row in range(4, 41):
        join.push(batch_of("b", [row]), ("tb", position := position + 1), at(2))
    join.push(batch_of("a", [40, 41]), ("ta", 2), at(2))
    assert offsets(join.pop()) == [40]
    assert join.close(at(2), anyone) is None, "it gets on: row 41 waits for it"


def test_a_stage_whose_workers_end_while_starting_is_down() -> None:
    join = new_join()
    join.push(batch_of("a", [0]), ("ta", 1), at(0))
    for worker in range(10):
        assert join.close(at(worker), anyone) is None
        for again in range(2):
            starting = beat("b", state="starting", worker=f"w{worker}")
            join.hear(starting, ("tb", 2 * worker + again), at(worker))
    assert offsets(join.close(at(10), anyone)) == [0]


def test_a_stage_whose_workers_end_at_other_partitions_rows_is_down_here_too() -> None:
    join = new_join()
    join.push(batch_of("b", [0]), ("tb", 1), at(0))
    join.push(batch_of("a", [0, 1]), ("ta", 1), at(0))
    assert offsets(join.pop()) == [0]
    states: tuple[State, ...] = ("starting", "working", "working")
    for worker in range(10):
        assert join.close(at(worker), anyone) is None
        for position, state in enumerate(states, 3 * worker + 2):
            join.hear(beat("b", state=state, worker=f"w{worker}"), ("tb", position), at(worker))
    assert offsets(join.close(at(10), anyone)) == [1]


def test_workers_that_come_and_go_while_there_is_nothing_to_do_do_not_make_a_stage_down() -> None:
    join = new_join()
    for stage in "ab":
        join.push(batch_of(stage, [0]), (f"t{stage}", 1), at(0))
    assert offsets(join.pop()) == [0]
    states: tuple[State, ...] = ("starting", "working")
    for worker in range(30):
        for position, state in enumerate(states, 2 * worker + 2):
            join.hear(beat("b", state=state, worker=f"w{worker}"), ("tb", position), at(worker))
    join.push(batch_of("a", [1]), ("ta", 2), at(30))
    assert join.close(at(31), anyone) is None


def test_a_stage_that_waits_for_another_is_not_down_however_often_it_is_started_anew() -> None:
    join = new_join()
    join.push(batch_of("a", [0]), ("ta", 1), at(0))
    for worker in range(30):
        heartbeat = beat("b", state="waiting", worker=f"w{worker}")
        join.hear(heartbeat, ("tb", worker + 1), at(worker))
    assert join.close(at(31), anyone) is None


def test_a_stage_that_is_nearly_as_fast_as_the_others_counts_again_though_they_never_pause() -> (
    None
):
    join, without = new_join(), 0
    for step in range(1, 1500):  # a row every 40 ms; b was down for 30 s, and answers in 50 ms
        now = 0.04 * step
        join.push(batch_of("a", [step]), ("ta", step), at(now))
        if now > 30:
            join.push(batch_of("b", [step - 2]), ("tb", step), at(now))
        while (joined := join.pop() or join.close(at(now), anyone)) is not None:
            if now > 32 and len(joined.rows):
                without += int((~joined.stages["b"].present).sum())
    assert without == 0


def test_what_an_input_claims_beyond_the_rows_that_are_known_is_of_no_use() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1]), ("ta", 1), at(0))
    join.hear(beat("b", 2**62), ("tb", 1), at(0))
    assert offsets(join.pop()) == [0, 1]
    join.push(batch_of("a", [2]), ("ta", 2), at(0))
    assert offsets(join.pop()) == [2], "and no row is lost by it"


def test_without_a_quorum_rows_wait_for_the_stage_that_is_down() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1, 2]), ("ta", 1), at(0))
    join.push(batch_of("b", [0]), ("tb", 1), at(0))
    assert offsets(join.pop()) == [0]
    assert join.close(at(1000), the_second) is None
    assert join.waits(at(1000))["b"].down
    join.push(batch_of("b", [1, 2]), ("tb", 2), at(2000))
    assert offsets(join.pop()) == [1, 2], "it is back, and nothing was decided without it"


def test_rows_leave_only_up_to_the_first_that_has_no_quorum() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1, 2, 3], absent=[2]), ("ta", 1), at(0))
    assert offsets(join.close(at(11), anyone)) == [0, 1]
    assert join.close(at(12), anyone) is None
    join.push(batch_of("b", [0, 1, 2]), ("tb", 1), at(13))
    assert offsets(join.pop()) == [2]


def test_a_stage_that_was_down_counts_again_from_the_row_where_it_has_caught_up() -> None:
    join = new_join()
    join.push(batch_of("a", list(range(10))), ("ta", 1), at(0))
    assert offsets(join.close(at(11), anyone)) == list(range(10))
    join.push(batch_of("b", [0, 1, 2, 3]), ("tb", 1), at(12.1))
    assert join.late_rows == 4
    join.push(batch_of("a", [10, 11]), ("ta", 2), at(12.1))
    live = join.close(at(12.1), anyone)
    assert offsets(live) == [10, 11], "live rows do not wait for its backlog"
    join.push(batch_of("b", list(range(4, 13))), ("tb", 2), at(13))
    join.push(batch_of("a", [12, 13]), ("ta", 3), at(13))
    assert offsets(join.pop()) == [12]
    assert join.close(at(14), anyone) is None, "it has caught up: row 13 waits for it"


def test_a_stage_that_is_found_behind_what_has_ended_at_a_restart_is_not_waited_for() -> None:
    join = new_join(done=9)
    join.push(batch_of("b", [3, 4]), ("tb", 1), at(0, unread=True))
    join.push(batch_of("a", [10]), ("ta", 1), at(0))
    assert join.close(at(0, unread=True), anyone) is None, "more of b may be there to read"
    assert offsets(join.close(at(0), anyone)) == [10]
    assert join.late_rows == 0, "what had ended before is late for nobody"


def test_a_stage_of_which_ten_workers_have_come_without_an_answer_is_down() -> None:
    join = new_join()
    join.push(batch_of("a", [0]), ("ta", 1), at(0))
    for number in range(SILENT_WORKERS):
        assert join.close(at(2 * number), anyone) is None
        join.hear(beat("b", state="starting", worker=f"w{number}"), ("tb", number), at(2 * number))
    assert offsets(join.close(at(2 * SILENT_WORKERS), anyone)) == [0]
    for number in range(SILENT_WORKERS, 3 * SILENT_WORKERS):
        join.hear(beat("b", state="starting", worker=f"w{number}"), ("tb", number), at(2 * number))
    assert len(join._lanes["b", 0]._silent_workers) == SILENT_WORKERS, (
        "however many come, it does not grow"
    )


def test_workers_that_came_while_nobody_owed_them_anything_do_not_make_a_stage_down() -> None:
    """A join that starts reads of hours of restarts at once, after rows that came since then."""
    join = new_join()
    join.push(batch_of("a", [0]), ("ta", 1), at(0))
    for number in range(3 * SILENT_WORKERS):
        for state in STARTED:
            heartbeat = beat("b", state=state, worker=f"w{number}")
            join.hear(heartbeat, ("tb", number), at(0.01 * number))
    assert join.close(at(0.3), anyone) is None
    join.push(batch_of("b", [0]), ("tb", 99), at(0.4))
    assert offsets(join.pop()) == [0]


def test_a_range_is_closed_only_as_far_as_somebody_knows_every_row_in_it() -> None:
    join = new_join(["b"], lanes={"b": 2})
    join.push(replace(batch_of("b", [1, 3], covers_from=0), lane=0), ("tb", 1), at(0))
    assert join.close(at(100), anyone) is None, "lane 1 may have rows 0 and 2"
    join.push(replace(batch_of("b", [0, 2], covers_from=0), lane=1), ("tb", 2), at(101))
    assert offsets(join.pop()) == [0, 1, 2], "row 3 may not be the last of lane 1"


def test_source_offsets_tell_of_rows_that_no_lane_has_brought() -> None:
    join = new_join(["b"], lanes={"b": 2}, source="events")
    join.push(batch_of("events", [0, 1, 2, 3]), ("te", 1), at(0))
    join.push(replace(batch_of("b", [1, 3], covers_from=0), lane=0), ("tb", 1), at(0))
    assert join.close(at(100), anyone) is None, "row 0 has no quorum"
    joined = join.close(at(100), lambda present: np.ones(len(present), np.bool_))
    assert joined is not None
    assert offsets(joined) == [0, 1, 2, 3]
    assert list(joined.stages) == ["b"], "the source is no stage"
    assert joined.stages["b"].present.tolist() == [False, True, False, True]


def test_after_the_deadline_what_has_not_answered_is_late() -> None:
    join = new_join()
    join.push(batch_of("a", [0]), ("ta", 1), at(0))
    join.push(batch_of("a", [1]), ("ta", 2), at(3))
    for second in range(5):
        join.hear(beat("b"), ("tb", second), at(second))
    assert join.close(at(4.9), anyone, deadline_s=5) is None
    joined = join.close(at(5), anyone, deadline_s=5)
    assert offsets(joined) == [0], "row 1 came at 3"
    assert joined is not None
    assert (joined.stages["b"].unanswered, joined.overdue_to) == ("late", 0)
    assert join.close(at(5.9), anyone, deadline_s=5) is None, "it may be about to answer"
    behind = join.close(at(6.1), anyone, deadline_s=5)
    assert offsets(behind) == [1], "it does not count until it has caught up"
    assert behind is not None
    assert (behind.stages["b"].unanswered, behind.overdue_to) == ("late", 0)


def test_a_late_row_waits_for_a_quorum_unless_it_needs_none() -> None:
    join = new_join()
    join.push(batch_of("a", [0]), ("ta", 1), at(0))
    join.hear(beat("b"), ("tb", 1), at(0))
    assert join.close(at(6), the_second, deadline_s=5) is None
    assert offsets(join.close(at(6), the_second, deadline_s=5, needs_quorum=False)) == [0]


def test_rows_that_are_already_written_are_dropped() -> None:
    join = new_join(done=5)
    join.push(batch_of("a", [4, 5, 6]), ("ta", 1), at(0))
    join.push(batch_of("b", [5, 6]), ("tb", 1), at(0))
    assert offsets(join.pop()) == [6]


def test_a_batch_that_comes_twice_counts_once() -> None:
    join = new_join()
    for position in (1, 2):
        join.push(batch_of("a", [0, 1]), ("ta", position), at(0))
    join.push(batch_of("b", [0, 1]), ("tb", 1), at(0))
    joined = join.pop()
    assert offsets(joined) == [0, 1]
    assert joined is not None
    assert joined.positions == {"ta": 2, "tb": 1}


def test_heartbeats_and_foreign_records_are_committed_behind_what_came_before_them() -> None:
    join = new_join()
    join.push(batch_of("a", [0]), ("ta", 1), at(0))
    join.hear(beat("a", 0), ("ta", 2), at(0))
    join.pass_over(("ta", 3))
    assert join.pop() is None
    join.hear(beat("b"), ("tb", 1), at(0))
    alone = join.pop()
    assert alone is not None
    assert alone.positions == {"tb": 1}
    join.push(batch_of("b", [0]), ("tb", 2), at(0))
    joined = join.pop()
    assert joined is not None
    assert joined.positions == {"ta": 3, "tb": 2}


def test_failures_keep_their_row_through_slicing_and_joining() -> None:
    join = new_join()
    join.push(batch_of("a", [0, 1, 2, 3], absent=[3]), ("ta", 1), at(0))
    join.push(batch_of("b", [0, 1]), ("tb", 1), at(0))
    join.pop()
    join.push(batch_of("b", [2, 3]), ("tb", 2), at(0))
    joined = join.pop()
    assert joined is not None
    assert joined.stages["a"].present.tolist() == [True, False]
    assert joined.failures()[1].reason == "row 3"


def test_a_model_change_between_batches_is_kept_by_row() -> None:
    join = new_join(["a"])
    join.push(batch_of("a", [0, 1]), ("ta", 1), at(0))
    join.push(batch_of("a", [2], model=ModelRef("a@2", "sha256:11", "fp32")), ("ta", 2), at(0))
    joined = join.pop()
    assert joined is not None
    runs = joined.stages["a"].models
    assert [(run.start, run.model.model) for run in runs] == [(0, "features@1"), (2, "a@2")]
    parts = [joined.stages["a"][1:], joined.stages["a"][:2]]
    assert [[(run.start, run.model.model) for run in part.models] for part in parts] == [
        [(0, "features@1"), (1, "a@2")],
        [(0, "features@1")],
    ]


def test_a_batch_without_any_output_joins_others_of_another_width() -> None:
    join = new_join(["a"])
    join.push(batch_of("a", [0], absent=[0]), ("ta", 1), at(0))
    join.push(batch_of("a", [1], width=5), ("ta", 2), at(0))
    joined = join.pop()
    assert joined is not None
    assert joined.stages["a"].output.shape == (2, 5)


def test_source_offsets_that_nobody_answers_for_are_counted() -> None:
    join = new_join(["a"], done=9)
    join.push(batch_of("a", [10, 11], covers_from=10), ("ta", 1), at(0))
    joined = join.pop()
    assert joined is not None
    assert joined.unaccounted == 0
    join.push(batch_of("a", [20], covers_from=18), ("ta", 2), at(0))
    joined = join.pop()
    assert joined is not None
    assert joined.unaccounted == 6


def test_a_compacted_gap_inside_what_a_batch_covers_is_no_loss() -> None:
    join = new_join(["a"], done=9)
    join.push(batch_of("a", [15, 20], covers_from=10), ("ta", 1), at(0))
    joined = join.pop()
    assert joined is not None
    assert joined.unaccounted == 0


def test_an_input_that_runs_ahead_is_full_and_one_that_is_waited_for_never() -> None:
    join = new_join(rows=3)
    join.push(batch_of("a", [0, 1, 2]), ("ta", 1), at(0))
    assert join.full_inputs() == {"a"}
    join.push(batch_of("b", [0, 1, 2]), ("tb", 1), at(0))
    assert join.full_inputs() == set()


def lane_batch(lane: int, rows: list[int], covers_from: int, covers_to: int) -> object:
    return replace(
        batch_of("b", rows, covers_from=covers_from), lane=lane, covers_to=covers_to
    )  # fmt: skip


def test_lanes_that_are_ahead_are_not_held_without_bound_but_read_again() -> None:
    """A log of two lanes, one of which is silent for long: memory stays, and no row is lost."""
    log: list[tuple[int, list[int]]] = [(0, [n]) for n in range(0, 200, 2)]
    log += [(1, [n]) for n in range(1, 200, 2)]
    join = new_join(["a", "b"], rows=10, lanes={"b": 2})
    seen: list[int] = []
    committed, position, most = 0, 0, 0
    join.push(batch_of("a", list(range(200))), ("ta", 1), at(0))
    for _ in range(10_000):
        if position < len(log):
            lane, rows = log[position]
            # Lane 0 answers for the odd row behind its own, which is the other's.
            batch = lane_batch(lane, rows, rows[0] - lane, rows[0] + 1 - lane)
            join.push(batch, ("tb", position + 1), at(0))  # type: ignore[arg-type]
            position += 1
        while (joined := join.pop()) is not None:
            seen += offsets(joined)
            for source, to in joined.positions.items():
                assert source == "ta" or to >= committed
                committed = int(to) if source == "tb" else committed
        most = max(most, sum(lane.rows for lane in join._stages["b"]))
        for source, offset in join.read_again().items():
            assert source == "tb"
            assert offset >= committed, "what is committed is not read again"
            position = offset
        if len(seen) == 200:
            break
    assert seen == list(range(200))
    assert most <= 11


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
            join.push(batch_of(stage, part), (stage, position), at(0))
        while (joined := join.pop()) is not None:
            for rows in joined.stages.values():
                assert rows.present.all()
                expected = (joined.rows.offsets / 1000).astype(np.float32)
                np.testing.assert_array_equal(rows.signal, expected)
            assert joined.rows.ids.items() == [b"event-%d" % o for o in joined.rows.offsets]
            seen += offsets(joined)
    assert seen == sorted({offset for _, part in delivered for offset in part})


@given(deliveries(), st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_whatever_is_down_whenever_every_known_row_leaves_once_and_in_order(
    delivered: list[tuple[str, list[int]]], pauses: list[int]
) -> None:
    """Stages stop and come back; what any of them ever brought leaves exactly once."""
    join = new_join(["a", "b", "c"])
    seen: list[int] = []
    now = 0.0
    for position, (stage, part) in enumerate(delivered):
        now += pauses[position % len(pauses)]
        join.push(batch_of(stage, part), (stage, position), at(now))
        while (joined := join.pop() or join.close(at(now), anyone)) is not None:
            seen += offsets(joined)
    while (joined := join.pop() or join.close(at(now + 100), anyone)) is not None:
        seen += offsets(joined)
    assert seen == sorted({offset for _, part in delivered for offset in part})
