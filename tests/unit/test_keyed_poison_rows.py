"""Which rows of a lane are run on one by one, or passed over, by what earlier workers have said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agents.recovery.keyed_poison_rows import (
    HEADER,
    KeyedPoisonRows,
    RunAttempt,
    attempt_record,
    attempts_by_worker,
)
from agents.windows.event_time_order import DueRows
from agents.workers.stage_pulse import WORKER_RUN
from tests.unit.stage_batches import batch_of
from tests.unit.topic_log import record
from topics.kafka.batches import Record


def part(source: int, offsets: list[int], times: list[int], position: int = 0) -> DueRows:
    batch = replace(batch_of("c", offsets), partition=source, covers_to=-1)
    if not offsets:
        batch = replace(batch, covers_to=4)
    return DueRows(batch, np.array(times, np.int64), position, early=0)


RELEASED = [
    part(0, [5, 6, 7], [10, 30, 40], 2),
    part(1, [8, 9], [20, 50], 3),
]


def portions(trial: KeyedPoisonRows, released: list[DueRows] = RELEASED) -> list[object]:
    """Of each portion its rows in their turn, and whether they are passed over."""
    found: list[object] = []
    for portion in trial.portions(released):
        rows = sorted(
            (clock, each.batch.partition, offset)
            for each in portion.due
            for clock, offset in zip(
                each.clocks_ms.tolist(), each.batch.rows.offsets.tolist(), strict=True
            )
        )
        found.append(([(source, offset) for _, source, offset in rows], bool(portion.passed_over)))
    return found


def of(*said: tuple[str, dict[int, tuple[int, int]]]) -> KeyedPoisonRows:
    return KeyedPoisonRows({name: RunAttempt(rows=rows, behind=1) for name, rows in said})


BOTH = {0: (5, 6), 1: (8, 8)}
EVERY = [(0, 5), (1, 8), (0, 6), (0, 7), (1, 9)]


@pytest.mark.parametrize(
    "trial",
    [of(), of(("w1", BOTH)), of((WORKER_RUN, BOTH), ("w1", BOTH)), of((WORKER_RUN, {0: (5, 5)}))],
)
def test_rows_are_run_on_together_unless_two_other_workers_have_ended(
    trial: KeyedPoisonRows,
) -> None:
    assert portions(trial) == [(EVERY, False)]


def test_after_two_endings_rows_are_run_on_one_by_one_in_the_order_of_event_time() -> None:
    assert portions(of(("w1", BOTH), ("w2", BOTH))) == [
        ([(0, 5)], False), ([(1, 8)], False), ([(0, 6)], False), ([(0, 7), (1, 9)], False),
    ]  # fmt: skip


def test_one_ending_at_a_single_row_is_enough_to_be_careful_and_three_to_pass_over() -> None:
    one = {1: (8, 8)}
    careful = [([(0, 5)], False), ([(1, 8)], False), ([(0, 6), (0, 7), (1, 9)], False)]
    assert portions(of(("w1", one))) == careful
    assert portions(of(("w1", one), ("w2", one), ("w3", BOTH)))[1] == ([(1, 8)], False)
    careful[1] = ([(1, 8)], True)
    assert portions(of(("w1", one), ("w2", one), ("w3", one))) == careful


def test_what_only_says_how_far_a_source_has_come_keeps_its_place_before_the_sources_rows() -> None:
    nothing = part(1, [], [])
    trial = of(("w1", {1: (8, 8)}))
    before, after = [nothing, *RELEASED[1:], RELEASED[0]], [RELEASED[0], *RELEASED[1:], nothing]
    with_nothing = [[each is nothing for each in portion.due] for portion in trial.portions(before)]
    assert with_nothing[1] == [True, False]
    last = [*trial.portions(after)][-1]
    assert [each is nothing for each in last.due] == [False, False, True]
    assert portions(trial, [nothing]) == [([], False)]


def test_of_rows_that_have_their_answers_already_nothing_is_said() -> None:
    (portion,) = of().portions(RELEASED)
    assert portion.attempt(0) == RunAttempt(rows={0: (5, 7), 1: (8, 9)}, behind=4)
    assert portion.attempt(3) == RunAttempt(rows={1: (8, 9)}, behind=4)
    assert portion.attempt(4) is None


def test_early_rows_stay_early_however_a_release_is_divided() -> None:
    early = [replace(RELEASED[0], early=2)]
    parts = [each for portion in of(("w1", {0: (6, 6)})).portions(early) for each in portion.due]
    assert [each.early_rows().tolist() for each in parts] == [[False], [True], [True]]


def test_what_a_worker_said_last_counts_until_it_is_taken_back() -> None:
    first, last = RunAttempt(rows=BOTH, behind=1), RunAttempt(rows={0: (5, 5)}, behind=1)

    def stored(number: int, said: Record) -> object:
        return record("t", number, said.value, key=said.key, headers=said.headers or ())

    said = [
        attempt_record(first, 0, "w1"), attempt_record(first, 0, "w2"),
        attempt_record(last, 0, "w1"), attempt_record(None, 0, "w2"),
        Record(b"0/manifest", b"{}", 0),
        Record(b"tried/w3", b"{}", 0, [(HEADER, b"1")]),
    ]  # fmt: skip
    records = [stored(number, each) for number, each in enumerate(said)]
    assert attempts_by_worker(records) == {"w1": last}
