"""Redriven events go as fast as live ones bear it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agents.redrive.live_pace import LOOK_S, LivePace, live_latency_ms
from tests.unit.topic_log import record
from topics.records.decision import ATTEMPT_HEADER


class Scene:
    """A pipeline whose live events take longer by how fast redrive records go."""

    def __init__(self, most: float = 5000, slower: float = 0.1) -> None:
        self.now = 0.0
        self.pace = LivePace(most, slower, lambda: self.now)
        self.under_way = 0

    def look(self, latencies_ms: Sequence[float] = ()) -> None:
        self.now += LOOK_S
        self.pace.look(latencies_ms, self.under_way)

    def sent(self, seconds: float) -> int:
        """How many redrive records go in so many seconds, looked at every 20 ms."""
        gone = 0
        for _ in range(round(seconds / 0.02)):
            self.now += 0.02
            due = self.pace.due()
            self.pace.gave(due)
            gone += due
        return gone


def test_where_no_live_events_flow_redrive_records_go_as_fast_as_they_may() -> None:
    scene = Scene()
    scene.look()
    assert scene.sent(1) == pytest.approx(5000, rel=0.02)


def test_a_few_redrive_records_go_at_once_and_the_others_once_the_live_latency_is_known() -> None:
    scene = Scene()
    assert scene.sent(0.4) == 10
    scene.under_way = 10
    scene.look([40.0])
    scene.under_way = 0
    for _ in range(3):
        assert scene.sent(0) == 0
        scene.look([50.0, 52.0, 90.0])
    assert scene.pace.without_ms == 52.0
    assert scene.sent(1) == pytest.approx(200, rel=0.02)


def test_those_that_go_while_a_measurement_ends_or_begins_hold_up_no_others() -> None:
    scene = Scene()
    due = scene.pace.due()
    scene.look()  # it ends: no live events flow
    scene.pace.gave(due)
    assert scene.sent(2) == pytest.approx(10_000, rel=0.15)
    scene.now += 1
    due = scene.pace.due()
    scene.look([50.0])
    assert scene.pace.measures
    scene.pace.gave(due)
    for _ in range(3):
        scene.look([50.0])
    assert scene.sent(2) == pytest.approx(400, rel=0.15)


def test_a_step_for_which_there_was_no_room_goes_at_the_rate_that_has_come_meanwhile() -> None:
    scene = Scene()
    for _ in range(20):
        scene.look([50.0])
    scene.now += 1
    assert scene.pace.due() > 500
    for _ in range(15):
        scene.look([90.0])
    assert scene.pace.rate == 20
    assert scene.sent(2) == pytest.approx(40, abs=10)


def test_a_rate_of_few_events_a_second_is_kept_from_the_first_one_on() -> None:
    scene = Scene(most=0.5)
    assert scene.sent(0.4) == 1
    scene.look()
    assert scene.sent(10) == pytest.approx(5, abs=1)


def test_redrive_records_that_wait_for_something_hold_up_no_others() -> None:
    scene = Scene()
    assert scene.sent(0.4) == 10
    scene.under_way = 10  # a stage that they need is down, say: they do not end
    for _ in range(9):
        scene.look()
        assert scene.sent(0) == 0
    scene.look()
    scene.sent(0.1)  # what was due meanwhile
    assert scene.sent(1) == pytest.approx(5000, rel=0.02)


def measured(latency_ms: float = 50.0, *, most: float = 5000, slower: float = 0.1) -> Scene:
    scene = Scene(most, slower)
    while scene.pace.measures:
        scene.look([latency_ms])
    return scene


def test_the_rate_settles_where_live_events_are_slower_by_the_share_that_is_allowed() -> None:
    scene = measured()
    rates = []
    for _ in range(50):
        scene.look([50 + scene.pace.rate * 0.01])  # 500 redrive records a second cost 10 %
        rates.append(scene.pace.rate)
    assert 250 < min(rates[10:]) < max(rates[10:]) < 650


def test_a_single_look_above_the_limit_slows_nothing_down() -> None:
    scene = measured()
    looks = [46.0, 58.0, 49.0, 52.0] * 10  # as it is with few events a look
    rates = []
    for latency_ms in looks:
        scene.look([latency_ms])
        rates.append(scene.pace.rate)
    assert rates[-1] == 5000


def test_redrive_records_do_not_stop_whatever_live_events_take() -> None:
    scene = measured()
    for _ in range(40):
        scene.look([900.0])
    assert scene.pace.rate == 20
    assert Scene(most=5).pace.rate == 5


def test_a_pipeline_that_falls_idle_is_made_use_of_at_once_and_live_ones_are_measured_then() -> (
    None
):
    scene = measured()
    scene.look([900.0])
    scene.look()
    assert scene.pace.rate == 5000
    idle = Scene()
    idle.look()
    idle.under_way = 3000
    idle.look([400.0])
    assert idle.pace.measures
    idle.look([400.0])
    assert idle.pace.measures, "redrive records are still under way"
    idle.under_way = 0
    while idle.pace.measures:
        idle.look([60.0])
    assert (idle.pace.without_ms, idle.pace.rate) == (60.0, 200)


def test_what_live_events_take_is_measured_again_and_again() -> None:
    scene = measured(50.0)
    while not scene.pace.measures:
        scene.look([50.0])
    assert scene.now > 30
    while scene.pace.measures:
        scene.look([200.0])
    assert scene.pace.without_ms == 200.0
    before = scene.pace.rate
    scene.look([210.0])
    assert scene.pace.rate > before


@pytest.mark.parametrize(
    ("value", "attempt", "latency_ms"),
    [
        (b'{"latency_ms": 12.5}', None, 12.5),
        (b'{"latency_ms": 12.5}', b"2", None),
        (b'{"latency_ms": 12.5}', b"x", None),
        (b'{"latency_ms": "fast"}', None, None),
        (b"[]", None, None),
        (b"{}", None, None),
        (None, None, None),
    ],
)
def test_a_live_latency_is_that_of_a_decision_on_a_first_attempt(
    value: bytes | None, attempt: bytes | None, latency_ms: float | None
) -> None:
    headers = [] if attempt is None else [(ATTEMPT_HEADER, attempt)]
    assert live_latency_ms(record("p.decisions", 1, value, headers=headers)) == latency_ms
