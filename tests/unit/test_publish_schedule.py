"""Events are published when they are due: by rate, by their own times, and with room for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from agents.publish.publisher import due_chunks
from agents.publish.schedule import ConstantRate, EventAndOutcome, EventTimes, Schedule
from topics.records.decision import rfc3339_time

DAY_MS = 1_522_540_800_000  # 2018-04-01
MOST = 2000


class Clock:
    """A clock that stands still except when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def at(seconds: float) -> dict[str, object]:
    return {"at": rfc3339_time(DAY_MS + round(seconds * 1000))}


def timed(
    clock: Clock, seconds: Iterable[float | dict[str, object]], speed: float = 1.0
) -> EventTimes:
    events = (second if isinstance(second, dict) else at(second) for second in seconds)
    return EventTimes(((event, None) for event in events), "at", speed, clock)


def due_at(clock: Clock, schedule: EventTimes, now_s: float) -> int:
    """How many events are due *now_s* seconds after the start; they are taken."""
    clock.now_s = 1000.0 + now_s
    due = schedule.due(0, MOST)
    return sum(1 for _ in zip(range(due), schedule, strict=False))


async def published(
    clock: Clock,
    events: Iterable[EventAndOutcome],
    schedule: Schedule | None,
    room: int | None = None,
) -> list[tuple[float, int]]:
    """(seconds, events) of each chunk."""
    began = clock.now_s
    most = MOST if room is None else min(MOST, room)

    async def left() -> int:
        return room or 0

    pairs = ((b"key", b"value") for _ in events)
    chunks = due_chunks(
        pairs, schedule=schedule, room=None if room is None else left, most=most, sleep=clock.sleep
    )
    return [(clock.now_s - began, len(chunk)) async for chunk in chunks]


def test_a_rate_gives_as_many_events_every_second() -> None:
    clock = Clock()
    schedule = ConstantRate(10, clock)
    assert schedule.due(0, MOST) == 1
    clock.now_s += 2
    assert schedule.due(1, MOST) == 20


def test_events_are_due_when_their_times_come() -> None:
    clock = Clock()
    schedule = timed(clock, [0, 0, 1, 5])
    assert [due_at(clock, schedule, now) for now in (0, 0.9, 1, 4.9, 5)] == [2, 0, 1, 0, 1]


def test_speed_is_seconds_of_event_time_in_a_second() -> None:
    clock = Clock()
    schedule = timed(clock, [0, 1800, 3600, 7200], speed=3600)
    assert [due_at(clock, schedule, now) for now in (0, 0.49, 0.5, 1, 2)] == [1, 0, 1, 1, 1]


def test_the_first_event_is_due_at_once_whenever_it_happened() -> None:
    clock = Clock()
    schedule = timed(clock, [90_000, 90_001])
    assert [due_at(clock, schedule, now) for now in (0, 1)] == [1, 1]


def test_an_event_without_a_valid_time_goes_with_its_predecessor() -> None:
    clock = Clock()
    bad: list[dict[str, object]] = [{}, {"at": None}, {"at": "yesterday"}, {"at": 7}]
    schedule = timed(clock, [*bad, 0, *bad, 10, *bad])
    assert [due_at(clock, schedule, now) for now in (0, 9.9, 10)] == [9, 0, 5]


def test_an_event_behind_its_predecessor_goes_with_it() -> None:
    clock = Clock()
    schedule = timed(clock, [0, 10, 3, 11])
    assert [due_at(clock, schedule, now) for now in (0, 5, 10, 11)] == [1, 0, 2, 1]


def test_no_more_is_read_ahead_than_is_wanted_at_once() -> None:
    clock, read = Clock(), []

    def endless() -> Iterator[EventAndOutcome]:
        while True:
            read.append(1)
            yield at(0), None

    schedule = EventTimes(endless(), "at", 1.0, clock)
    assert schedule.due(0, 50) == 50
    assert len(read) == 50


def test_a_stream_that_is_over_says_so_when_it_is_asked_for_more() -> None:
    clock = Clock()
    schedule = timed(clock, [0])
    assert due_at(clock, schedule, 0) == 1
    assert schedule.due(1, MOST) == 1
    assert list(schedule) == []


async def test_a_day_s_load_has_the_day_s_shape() -> None:
    clock = Clock()
    night, noon = [60.0 * n for n in range(60)], [3600 + n / 2 for n in range(7200)]
    events = timed(clock, [*night, *noon], speed=3600)
    found = await published(clock, events, events)
    assert sum(n for second, n in found if second < 1) == 60
    assert sum(n for second, n in found if second >= 1) == 7200
    assert max(second for second, _ in found) <= 2.1
    assert max(n for _, n in found) < 200


async def test_a_gap_is_waited_for() -> None:
    clock = Clock()
    events = timed(clock, [0, 40_000], speed=100)
    (first, _), (second, _) = await published(clock, events, events)
    assert first == 0
    assert 400 <= second < 400.1


async def test_without_a_pace_all_events_go_at_once() -> None:
    clock = Clock()
    assert await published(clock, [(at(0), None)] * 4500, None) == [(0, 2000), (0, 2000), (0, 500)]


async def test_fewer_in_flight_than_a_chunk_make_chunks_as_small() -> None:
    clock = Clock()
    chunks = await published(clock, [(at(0), None)] * 250, None, room=100)
    assert chunks == [(0, 100), (0, 100), (0, 50)]


async def test_what_waits_for_room_is_published_late_but_never_left_out() -> None:
    clock = Clock()
    events = timed(clock, range(100), speed=100)

    async def room() -> int:
        return MOST if clock.now_s >= 1005 else 0

    pairs = ((str(event["at"]).encode(), b"") for event, _ in events)
    sent = [
        pair async for chunk in due_chunks(pairs, schedule=events, room=room, sleep=clock.sleep)
        for pair in chunk
    ]  # fmt: skip
    assert [key.decode() for key, _ in sent] == [at(second)["at"] for second in range(100)]


async def test_stopping_ends_the_wait_for_what_is_not_due_yet() -> None:
    clock, stopping = Clock(), asyncio.Event()
    events = timed(clock, [0, 1e9])

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        if clock.now_s > 1010:
            stopping.set()

    pairs = ((b"", b"") for _ in events)
    chunks = [
        chunk async for chunk in due_chunks(
            pairs, schedule=events, room=None, stopping=stopping, sleep=sleep
        )
    ]  # fmt: skip
    assert [len(chunk) for chunk in chunks] == [1]
    assert clock.now_s < 1011


@given(
    seconds=st.lists(st.one_of(st.integers(0, 50), st.none()), max_size=60),
    moments=st.lists(st.integers(0, 60), max_size=12),
    most=st.integers(1, 10),
)
def test_every_event_comes_once_in_order_and_not_before_its_time(
    seconds: list[int | None], moments: list[int], most: int
) -> None:
    clock = Clock()
    events = [{"n": n, **({} if each is None else at(each))} for n, each in enumerate(seconds)]
    start = next((each for each in seconds if each is not None), 0)
    schedule = EventTimes(((event, True) for event in events), "at", 1.0, clock)
    taken: list[object] = []
    for moment in [0, *sorted(moments), *range(60, 200)]:
        clock.now_s = 1000.0 + moment
        for _ in range(min(most, schedule.due(len(taken), most))):
            labelled = next(schedule, None)
            if labelled is not None:
                event = labelled[0]
                second = seconds[int(str(event["n"]))]
                assert second is None or second - start <= moment
                taken.append(event["n"])
    assert taken == list(range(len(events)))
