"""Heartbeats, the clock that silence is measured by, and rows that workers end at."""

from __future__ import annotations

import json
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.recovery.poison_rows import PoisonRows, RowRange
from agents.workers.app import StageApp
from agents.workers.attended_clock import AttendedClock
from agents.workers.stage_pulse import WORKER_RUN, PartitionHealth, StagePulse
from topics.errors import WireError
from topics.kafka.batches import Record
from topics.records.heartbeat import HEARTBEAT_HEADER, Heartbeat, heartbeat_of
from topics.records.reports import AwaitedInput


class Topic:
    """What a worker writes."""

    def __init__(self) -> None:
        self.said: list[Heartbeat] = []
        self.writer = SimpleNamespace(write=self.write)

    async def write(self, topic: str, partition: int, records: list[Record]) -> None:
        for record in records:
            heartbeat = heartbeat_of(record.value, dict(record.headers))
            assert heartbeat is not None
            assert (topic, partition) == ("p.risk", heartbeat.partition)
            self.said.append(heartbeat)


def pulse_on(topic: Topic) -> StagePulse:
    return StagePulse(cast("StageApp", topic), "risk", "p.risk")


def waiting(*, down: bool) -> PartitionHealth:
    return PartitionHealth("waiting", {"features": AwaitedInput(since_ms=0, down=down)})


async def test_a_heartbeat_is_written_where_nothing_else_was_for_the_interval() -> None:
    topic = Topic()
    pulse = pulse_on(topic)
    pulse.opened(2, 41)
    await pulse.beat(2, PartitionHealth("working"), 60)
    await pulse.beat(2, PartitionHealth("working"), 60)
    assert [(said.state, said.frontier, said.worker) for said in topic.said] == [
        ("working", 41, WORKER_RUN)
    ]
    pulse.wrote(2, None, 45)
    await pulse.beat(2, PartitionHealth("working"), 60)
    assert len(topic.said) == 1, "an output is a sign of life too"
    await pulse.beat(2, PartitionHealth("working"), 0)
    assert topic.said[-1].frontier == 45


async def test_that_an_input_is_down_or_lives_again_is_said_at_once() -> None:
    topic = Topic()
    pulse = pulse_on(topic)
    pulse.wrote(0, None, 3)
    await pulse.beat(0, waiting(down=False), 60)
    assert topic.said == [], "that something is waited for is no news"
    await pulse.beat(0, waiting(down=True), 60)
    await pulse.beat(0, waiting(down=True), 60)
    await pulse.beat(0, waiting(down=False), 60)
    assert [(said.down, said.waiting_for) for said in topic.said] == [
        (True, ["features"]), (False, ["features"]),
    ]  # fmt: skip


async def test_a_worker_that_starts_says_nothing_of_how_far_its_topic_reaches() -> None:
    topic = Topic()
    await pulse_on(topic).beat(0, PartitionHealth("starting"), 60)
    assert [(said.state, said.frontier) for said in topic.said] == [("starting", -1)]


@pytest.mark.parametrize(
    "value",
    [None, b"", b"[]", b"{}", b"\xff", b'{"component":"a","partition":-1,"worker":"w"}'],
)
def test_what_says_that_it_is_a_heartbeat_and_is_none_is_refused(value: bytes | None) -> None:
    with pytest.raises(WireError, match="not a heartbeat"):
        heartbeat_of(value, {HEARTBEAT_HEADER: b"1"})


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_value_makes_reading_a_heartbeat_fail_in_another_way(value: Any) -> None:
    raw = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    with suppress(WireError):
        heartbeat_of(raw, {HEARTBEAT_HEADER: b"1"})
    assert heartbeat_of(raw, {}) is None


def test_fields_of_a_newer_version_are_no_reason_to_refuse_a_heartbeat() -> None:
    said = {"component": "a", "partition": 0, "worker": "w", "state": "working", "mood": "fine"}
    heartbeat = heartbeat_of(json.dumps(said).encode(), {HEARTBEAT_HEADER: b"2"})
    assert heartbeat is not None
    assert heartbeat.component == "a"


def test_time_in_which_nobody_looked_or_nothing_could_be_heard_does_not_pass() -> None:
    now, deaf = [0.0], [False]
    clock = AttendedClock(lambda: deaf[0], lambda: now[0])
    now[0] = 0.5
    assert clock.now() == 0.5
    now[0] = 300.5  # frozen
    assert clock.now() == 1.5
    deaf[0], now[0] = True, 301.0
    assert clock.now() == 1.5
    deaf[0], now[0] = False, 301.25
    assert clock.now() == 1.75


def tried(worker: str, first: int, last: int) -> Heartbeat:
    return Heartbeat(component="risk", partition=0, worker=worker, state="working",
                     frontier=first - 1, tried=(first, last))  # fmt: skip


def parts(trial: PoisonRows, *offsets: int) -> list[tuple[int, int, bool]]:
    found: list[RowRange] = list(trial.row_ranges(np.array(offsets, np.int64)))
    return [(part.start, part.stop, bool(part.passed_over)) for part in found]


def test_rows_are_run_on_together_unless_two_workers_have_ended_at_them() -> None:
    assert parts(PoisonRows(), 5, 6, 7) == [(0, 3, False)]
    assert parts(PoisonRows([tried("w1", 5, 7)]), 5, 6, 7) == [(0, 3, False)]
    trial = PoisonRows([tried("w1", 5, 6), tried("w2", 5, 6)])
    assert parts(trial, 5, 6, 7, 9) == [(0, 1, False), (1, 2, False), (2, 4, False)]
    assert [trial.is_over(offset) for offset in (5, 6, 7)] == [False, True, True]


def test_a_row_that_three_workers_have_ended_at_alone_is_passed_over() -> None:
    assert parts(PoisonRows([tried("w1", 5, 5)]), 5, 6) == [(0, 1, False), (1, 2, False)]
    assert parts(PoisonRows([tried(f"w{number}", 5, 5) for number in range(3)]), 5, 6) == [
        (0, 1, True), (1, 2, False),
    ]  # fmt: skip


def test_what_this_worker_itself_has_tried_is_no_sign_that_it_has_ended() -> None:
    """A rebalance may take a partition away between the heartbeat and the output."""
    assert parts(PoisonRows([tried(WORKER_RUN, 5, 5), tried(WORKER_RUN, 5, 5)]), 5, 6) == [
        (0, 2, False)
    ]
