"""The stream of decisions without a broker: positions, filters, callers that are live or behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.gateway.stream.decision_stream import DecisionStream
from agents.gateway.stream.live_decisions import LiveDecisions
from agents.gateway.stream.past_decisions import PastDecisions
from agents.gateway.stream.stream_events import Block, StreamedRecord
from agents.gateway.stream.stream_filter import StreamFilter
from agents.gateway.stream.stream_position import (
    Cursor,
    Gap,
    Position,
    TopicPosition,
    position_of,
    reachable,
)
from tests.integration.event_source import ServerEvent, events_of_lines
from tests.unit.topic_log import record

ALL = StreamFilter()
BEGIN = Position(TopicPosition("abc", (0, 0)), TopicPosition("def", (0, 0)))


def decision(partition: int, offset: int, **fields: Any) -> Any:
    """A decision record, whose source is as far as itself."""
    value = {"event_id": f"{partition}-{offset}", "decision": "approve", "score": 0.25,
             "degraded": False, "missing": [], **fields}  # fmt: skip
    headers = [("ce_id", f"p.events/{partition}/{offset}".encode())]
    return record("p.decisions", offset, orjson.dumps(value), headers=headers, partition=partition)


class Log:
    """Decisions of two partitions, and readers of their past that behave as a broker's."""

    def __init__(self) -> None:
        self.records: list[list[Any]] = [[], []]
        self.live = LiveDecisions("id")
        self.live.open(BEGIN)
        self.turns = 0

    def write(self, partition: int, count: int, *, unseen: bool = False) -> None:
        """Decide *count* events; those that are *unseen* are not told to who is live."""
        log = self.records[partition]
        new = [decision(partition, len(log) + at) for at in range(count)]
        log += new
        if not unseen:
            self.live.take(partition, new, is_decision=True)

    @asynccontextmanager
    async def turn(self, wanted: StreamFilter, since_ms: int) -> AsyncIterator[LogTurn]:
        self.turns += 1
        yield LogTurn(self)

    def stream(self, start: Position | None, most_bytes: int = 10_000_000) -> DecisionStream:
        past: PastDecisions = self  # type: ignore[assignment]  # a fake of it
        return DecisionStream(self.live, past, ALL, start, 0, most_bytes, lambda _: None)


class LogTurn:
    def __init__(self, log: Log) -> None:
        self._log = log

    async def open(self, start: Position | None) -> Block:
        self._cursor = Cursor(start or BEGIN.of_decisions())
        return Block(b"", 0, self._cursor.position)

    async def next(self, until: Position) -> Block | None:
        """One record more: others have their turn in between."""
        await asyncio.sleep(0)
        for partition, end in enumerate(until.decisions.offsets):
            offset = self._cursor.offset(partition, is_decision=True)
            if offset < end:
                self._cursor.advance(partition, offset + 1, is_decision=True)
                streamed = StreamedRecord(
                    self._log.records[partition][offset], "id", is_decision=True
                )
                event_id = self._cursor.event_id(with_dead_letters=False)
                return Block(streamed.encoded(event_id), 1, self._cursor.position)
        return None


class Caller:
    """Reads a stream; while it is *stuck* it reads nothing."""

    def __init__(self) -> None:
        self._content = b""
        self.free = asyncio.Event()
        self.free.set()

    async def send(self, content: bytes) -> None:
        await self.free.wait()
        self._content += content

    @property
    def events(self) -> list[ServerEvent]:
        return [*events_of_lines(iter(self._content.decode().split("\n")))]

    @property
    def last_id(self) -> Position:
        """What it would resume with."""
        ids = [line for line in self._content.decode().split("\n") if line.startswith("id: ")]
        return position_of(ids[-1].removeprefix("id: "), 2, with_dead_letters=False)

    def names(self) -> list[str]:
        return [each.data["event_id"] for each in self.events if each.name == "decision"]


async def until(condition: Any) -> None:
    """Wait until it is true; the test's own time limit ends what never is."""
    while not condition():  # noqa: ASYNC110  # what is looked at tells nobody
        await asyncio.sleep(0.005)


async def joined(log: Log, callers: int = 1) -> None:
    """Wait until so many are live."""
    groups = log.live._groups
    await until(lambda: sum(len(group.outboxes) for group in groups.values()) == callers)


def all_names(log: Log) -> list[str]:
    return sorted(f"{p}-{at}" for p in range(2) for at in range(len(log.records[p])))


offsets = st.lists(st.integers(0, 2**62), min_size=3, max_size=3)


@given(st.sampled_from(["", "gTChWxug", "a-_9"]), offsets, offsets)
def test_an_id_names_its_position(topic_id: str, decisions: list[int], letters: list[int]) -> None:
    both = Position(TopicPosition.of(topic_id, decisions), TopicPosition.of(topic_id, letters))
    assert position_of(str(both), 3, with_dead_letters=True) == both
    assert position_of(str(both), 3, with_dead_letters=False) == both.of_decisions()
    cursor = Cursor(both)
    assert cursor.event_id(with_dead_letters=True).decode() == str(both)
    cursor.advance(1, 5, is_decision=True)
    assert position_of(
        cursor.event_id(with_dead_letters=False).decode(), 3, with_dead_letters=False
    ).decisions.offsets == (decisions[0], 5, decisions[2])


@given(st.text(max_size=40))
def test_what_is_no_id_is_refused(text: str) -> None:
    try:
        position = position_of(text, 2, with_dead_letters=False)
    except ValueError:
        return
    assert len(position.decisions.offsets) == 2


@pytest.mark.parametrize(
    ("at", "goes_on", "because"),
    [
        (TopicPosition("a", (4,)), 5, "retention"),
        (TopicPosition("a", (5,)), 5, None),
        (TopicPosition("a", (9,)), 9, None),
        (TopicPosition("a", (10,)), 5, "topic remade"),
        (TopicPosition("b", (7,)), 5, "topic remade"),
        (TopicPosition("", (7,)), 7, None),
    ],
)
def test_what_is_missing_is_known(at: TopicPosition, goes_on: int, because: str | None) -> None:
    there, gaps = reachable("t", at, TopicPosition("a", (5,)), [9])
    assert there == TopicPosition("a", (goes_on,))
    assert gaps == ([] if because is None else [Gap("t", 0, at.offsets[0], 5, because)])


@pytest.mark.parametrize(
    ("wanted", "is_wanted"),
    [
        (StreamFilter(), True),
        (StreamFilter(decisions=frozenset({"decline", "review"})), False),
        (StreamFilter(min_score=0.25, max_score=0.25), True),
        (StreamFilter(min_score=0.26), False),
        (StreamFilter(degraded=False), True),
        (StreamFilter(degraded=True), False),
        (StreamFilter(event_id="0-7"), True),
        (StreamFilter(event_id="0-8"), False),
        (StreamFilter(stage="risk"), False),
        (StreamFilter(dead_letters=True), True),
    ],
)
def test_a_filter_looks_at_the_record(wanted: StreamFilter, is_wanted: bool) -> None:
    assert StreamedRecord(decision(0, 7), "id", is_decision=True).is_wanted(wanted) == is_wanted


def test_a_late_decision_has_no_score_to_be_in_any_range() -> None:
    late = StreamedRecord(decision(0, 1, score=None), "id", is_decision=True)
    assert not late.is_wanted(StreamFilter(min_score=0.0))
    assert late.is_wanted(StreamFilter(degraded=False))


def test_whatever_stands_in_a_record_does_not_end_its_event() -> None:
    value = b'{"a": 1,\n\r\nevent: x\n "b": 2}'
    odd = record("p.decisions", 0, value, headers=[("ce_id", b"p.events/0/0")])
    text = StreamedRecord(odd, "id", is_decision=True).encoded(b"1").decode()
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert [line.partition(":")[0] for line in lines] == [
        "id", "event", "data", "data", "data", "data", "", "",
    ]  # fmt: skip


async def test_who_is_at_the_end_needs_no_reader() -> None:
    log, caller = Log(), Caller()
    task = asyncio.create_task(log.stream(BEGIN.of_decisions()).run(caller.send))
    await joined(log)
    log.write(0, 3)
    log.write(1, 2)
    await until(lambda: len(caller.names()) == 5)
    assert (sorted(caller.names()), log.turns) == (all_names(log), 0)
    assert caller.last_id == Position(TopicPosition("abc", (3, 2)))
    task.cancel()


async def test_the_past_and_what_is_live_adjoin() -> None:
    log, caller = Log(), Caller()
    log.write(0, 3000)
    log.write(1, 10)
    task = asyncio.create_task(log.stream(None).run(caller.send))
    for _ in range(200):
        await asyncio.sleep(0.001)
        log.write(1, 3)
    await until(lambda: len(caller.names()) == 3610)
    assert sorted(caller.names()) == all_names(log)
    for partition in "01":
        offsets = [int(name[2:]) for name in caller.names() if name[0] == partition]
        assert offsets == sorted(offsets), "each partition comes in its order"
    task.cancel()


async def test_who_joins_gets_nothing_of_before() -> None:
    log, first, second = Log(), Caller(), Caller()
    tasks = [asyncio.create_task(log.stream(BEGIN.of_decisions()).run(first.send))]
    await joined(log)
    log.write(0, 3)  # is given out some milliseconds later
    now = log.live.position(ALL)
    tasks.append(asyncio.create_task(log.stream(now).run(second.send)))
    await joined(log, 2)
    log.write(0, 1)
    await until(lambda: len(second.names()) and len(first.names()) == 4)
    assert second.names() == ["0-3"]
    for task in tasks:
        task.cancel()


async def test_what_live_readers_missed_is_read_from_the_past() -> None:
    log, caller = Log(), Caller()
    task = asyncio.create_task(log.stream(BEGIN.of_decisions()).run(caller.send))
    await joined(log)
    log.write(0, 5)
    log.live.close()
    log.write(0, 5, unseen=True)
    log.live.open(Position(TopicPosition("abc", (10, 0)), BEGIN.dead_letters))
    await joined(log)
    log.write(1, 1)
    log.write(0, 2, unseen=True)  # the consumer has lost these
    log.write(0, 3)
    await until(lambda: len(caller.names()) == 16)
    assert sorted(caller.names()) == all_names(log)
    task.cancel()


async def test_who_reads_too_slowly_is_told_and_loses_nothing() -> None:
    log, slow, quick = Log(), Caller(), Caller()
    begin = BEGIN.of_decisions()
    behind = asyncio.create_task(log.stream(begin, most_bytes=20_000).run(slow.send))
    other = asyncio.create_task(log.stream(begin).run(quick.send))
    await joined(log, 2)
    log.write(0, 10)
    await until(lambda: len(slow.names()) == 10)
    slow.free.clear()
    for _ in range(6):
        log.write(1, 50)
        await asyncio.sleep(0.06)
    slow.free.set()
    await behind
    shed = slow.events[-1]
    assert shed.name == "shed"
    assert 0 < shed.data["skipped"] <= 310 - len(slow.names())
    assert len(quick.names()) == 310
    again = asyncio.create_task(log.stream(slow.last_id).run(slow.send))
    await until(lambda: len(slow.names()) == 310)
    assert sorted(slow.names()) == all_names(log)
    again.cancel()
    other.cancel()


async def test_a_burst_is_no_sign_of_a_slow_caller() -> None:
    log, caller = Log(), Caller()
    task = asyncio.create_task(log.stream(BEGIN.of_decisions(), most_bytes=100).run(caller.send))
    await joined(log)
    log.write(0, 500)
    await until(lambda: len(caller.names()) == 500)
    task.cancel()


async def test_the_past_is_not_what_a_caller_is_sent_away_for() -> None:
    log, caller = Log(), Caller()
    log.write(0, 900)
    task = asyncio.create_task(log.stream(None, most_bytes=2000).run(caller.send))
    while len(caller.names()) < 900:
        log.write(1, 1)
        await asyncio.sleep(0.01)
    count = 900 + len(log.records[1])
    await until(lambda: len(caller.names()) == count)
    assert sorted(caller.names()) == all_names(log)
    assert {each.name for each in caller.events} == {"decision"}
    task.cancel()


async def test_who_comes_from_a_quicker_gateway_gets_nothing_twice() -> None:
    log, caller = Log(), Caller()
    log.write(0, 5, unseen=True)
    seen = Position(TopicPosition("abc", (5, 0)))
    task = asyncio.create_task(log.stream(seen).run(caller.send))
    await asyncio.sleep(0.05)
    log.live.take(0, log.records[0], is_decision=True)  # now this one has read it, too
    log.write(0, 2)
    await until(lambda: len(caller.names()) == 2)
    assert caller.names() == ["0-5", "0-6"]
    task.cancel()


async def test_callers_of_one_filter_share_one_encoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Log()
    callers = [Caller() for _ in range(20)]
    streams = [log.stream(BEGIN.of_decisions()).run(caller.send) for caller in callers]
    tasks = [asyncio.create_task(stream) for stream in streams]
    await joined(log, 20)
    encoded = list[int]()
    original = StreamedRecord.encoded

    def counted(self: StreamedRecord, event_id: bytes) -> bytes:
        encoded.append(1)
        return original(self, event_id)

    monkeypatch.setattr(StreamedRecord, "encoded", counted)
    log.write(0, 7)
    await until(lambda: all(len(caller.names()) == 7 for caller in callers))
    assert len(encoded) == 7
    for task in tasks:
        task.cancel()
