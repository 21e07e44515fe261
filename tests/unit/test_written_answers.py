"""A join reads once all of its inputs have answered more, where that is known in its process."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agents.process.worker_apps import reads_at_once
from agents.stages.join_worker import JoinWorker
from agents.workers.stage_pulse import StagePulse
from agents.workers.written_answers import WrittenAnswers
from topics.pipeline.schema import Weighting
from topics.pipeline.topology import WEIGH

FOREVER_S = 3600.0
ALONE = (None,)


async def waited(answers: WrittenAnswers, frontier: int) -> bool:
    """Whether a reader of risk's partition 0 has to wait for an answer beyond *frontier*."""

    def is_enough() -> bool:
        reached = answers.frontier("risk", 0, ALONE)
        return reached is None or reached > frontier

    waiting = asyncio.create_task(answers.until(is_enough, FOREVER_S))
    for _ in range(3):
        await asyncio.sleep(0)
    waits = not waiting.done()
    waiting.cancel()
    return waits


async def test_a_reader_waits_for_an_answer_beyond_what_it_has() -> None:
    answers = WrittenAnswers()
    answers.reach("risk", 0, None, 7)
    assert not await waited(answers, 6)
    assert await waited(answers, 7)
    answers.reach("risk", 1, None, 9)
    assert await waited(answers, 7), "that is another partition"


async def test_who_waits_hears_of_every_answer() -> None:
    answers = WrittenAnswers()
    answers.reach("risk", 0, None, 0)

    def has_reached(offset: int) -> bool:
        return (answers.frontier("risk", 0, ALONE) or 0) >= offset

    heard = [
        asyncio.create_task(answers.until(partial(has_reached, offset), FOREVER_S))
        for offset in (1, 2, 2)
    ]
    for frontier in (1, 2):
        await asyncio.sleep(0)
        answers.reach("risk", 0, None, frontier)
    async with asyncio.timeout(5):
        await asyncio.gather(*heard)


async def test_nobody_waits_for_longer_than_its_patience() -> None:
    began = time.monotonic()
    await WrittenAnswers().until(lambda: False, 0.01)
    assert time.monotonic() - began >= 0.01


def test_lanes_have_answered_what_all_of_them_have() -> None:
    answers = WrittenAnswers()
    answers.reach("shops", 0, 0, 9)
    assert answers.frontier("shops", 0, range(2)) is None, "lane 1 is written elsewhere"
    answers.reach("shops", 0, 1, 4)
    assert answers.frontier("shops", 0, range(2)) == 4
    answers.reach("shops", 0, 1, 3)
    assert answers.frontier("shops", 0, range(2)) == 4, "it was told again, not taken back"


def test_what_others_may_write_now_is_not_known_any_more() -> None:
    answers = WrittenAnswers()
    pulse = StagePulse(cast("Any", None), answers, "risk", "p.risk")
    other = StagePulse(cast("Any", None), answers, "features", "p.features")
    for each in (pulse, other):
        each.opened(0, 3)
        each.wrote(0, None, 5)
    pulse.forget_owners()
    assert answers.frontier("risk", 0, ALONE) is None
    assert answers.frontier("features", 0, ALONE) == 5
    pulse.opened(0, 5)
    assert answers.frontier("risk", 0, ALONE) == 5


def join_worker(answers: WrittenAnswers, done: dict[int, int]) -> JoinWorker:
    """A worker that joins features and shops, of two lanes, and has come to *done*."""
    worker = JoinWorker.__new__(JoinWorker)
    batches = SimpleNamespace(wants_ticks=False)
    worker.wiring = cast(
        "Any", SimpleNamespace(answers=answers, app=SimpleNamespace(batches=batches))
    )
    worker.topology = cast("Any", SimpleNamespace(repartitioned=("shops",), partitions=2))
    worker._inputs = ["features", "shops"]
    worker.redriven_at = float("-inf")
    worker._states = {p: cast("Any", SimpleNamespace(done=each)) for p, each in done.items()}
    return worker


@pytest.mark.parametrize("wants_ticks", [False, True])
async def test_a_join_reads_when_its_last_input_has_answered(wants_ticks: bool) -> None:
    answers = WrittenAnswers()
    worker = join_worker(answers, {0: 3, 1: 3})
    worker.wiring.app.batches.wants_ticks = wants_ticks
    for partition in (0, 1):
        answers.reach("features", partition, None, 3)
        for lane in (0, 1):
            answers.reach("shops", partition, lane, 3)
    began = time.monotonic()
    await worker.turn()
    assert time.monotonic() - began >= (0.02 if wants_ticks else 0.1), "ticks are given in time"
    turn = asyncio.create_task(worker.turn())
    answers.reach("features", 1, None, 6)
    answers.reach("shops", 1, 0, 5)
    await asyncio.sleep(0)
    assert not turn.done(), "nothing could leave yet"
    answers.reach("shops", 1, 1, 4)
    async with asyncio.timeout(5):
        await turn
    await worker.turn()  # at once, until that row has left
    assert worker._may_leave()
    worker._states[1] = cast("Any", SimpleNamespace(done=4))
    assert not worker._may_leave()


async def test_redrive_records_are_not_waited_with() -> None:
    answers = WrittenAnswers()
    worker = join_worker(answers, {0: 3})
    answers.reach("features", 0, None, 3)
    for lane in (0, 1):
        answers.reach("shops", 0, lane, 3)
    assert not worker._may_leave()
    worker.redriven_at = began = time.monotonic()
    await worker.turn()
    assert time.monotonic() - began < 0.1
    worker.redriven_at = began - 2
    began = time.monotonic()
    await worker.turn()
    assert time.monotonic() - began >= 0.1, "none came for some time"


def test_a_join_whose_inputs_are_written_elsewhere_does_not_wait() -> None:
    answers = WrittenAnswers()
    worker = join_worker(answers, {0: 3, 1: 3})
    assert worker._may_leave()
    answers.reach("features", 0, None, 3)
    answers.reach("shops", 0, 0, 3)
    assert worker._may_leave(), "partition 1 has other owners, and so has a lane"
    assert join_worker(answers, {})._may_leave()


@pytest.mark.parametrize(
    ("late", "worker", "run_here", "at_once"),
    [
        ("wait", WEIGH, {"features", "risk"}, True),
        ("wait", WEIGH, {"features"}, False),
        ("degrade", WEIGH, {"features", "risk"}, False),
        ({"fallback": "review"}, WEIGH, {"features", "risk"}, False),
        ("degrade", "decision", {"features", "risk", "decision"}, True),
    ],
)
def test_a_join_reads_at_once_where_it_hears_of_all_inputs_and_has_no_deadline(
    late: object, worker: str, run_here: set[str], at_once: bool
) -> None:
    pipeline: Any = SimpleNamespace(
        weighting=Weighting.model_validate({"from": ["features", "risk"], "weights": "learned",
                                            "late": late, "deadline_ms": 200})
    )  # fmt: skip
    assert reads_at_once(pipeline, worker, ["features", "risk"], run_here) is at_once
