"""What aiokafka does wrongly or has no call for: done here, and noticed when aiokafka changes."""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import socket
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import aiokafka.consumer.fetcher
import pytest
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance, GroupCoordinator
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaConnectionError, KafkaError, UnknownMemberIdError, for_code
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.group import JoinGroupRequest, JoinGroupResponse_v5, SyncGroupRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from topics.kafka import aiokafka_fixes as fixes
from topics.kafka.aiokafka_fixes import TolerantRecords, join_at_once
from topics.transport.assignor import PartitionNumberAssignor

GZIP = 1


class Raw(str):
    """A header key of bytes that are no UTF-8."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"tr\xffce"


def batch(keys: list[str], *, codec: int = 0, first: int = 0) -> bytes:
    """A record batch whose records have these header keys."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 2**20)
    for offset, key in enumerate(keys):
        builder.append(offset, 1000 + offset, b"k%d" % offset, b"v", [(key, b"h")])
    made = bytearray(builder.build())
    made[:8] = first.to_bytes(8, "big")
    return bytes(made)


@pytest.mark.parametrize("codec", [0, GZIP])
def test_a_header_key_that_is_no_text_becomes_readable(codec: int) -> None:
    data = batch(["a", "b"]) + batch(["c", Raw("x"), "é"], codec=codec, first=2)
    records, found = TolerantRecords(data), []
    assert records.size_in_bytes() == len(data)
    while records.has_next():
        made = records.next_batch()
        assert made.validate_crc()
        found += [(r.offset, r.key, r.value, r.timestamp, list(r.headers)) for r in made]
    assert [(offset, headers) for offset, *_, headers in found] == [
        (0, [("a", b"h")]), (1, [("b", b"h")]), (2, [("c", b"h")]),
        (3, [("tr\\xffce", b"h")]), (4, [("é", b"h")]),
    ]  # fmt: skip
    assert [(key, value, at) for _, key, value, at, _ in found[2:]] == [
        (b"k0", b"v", 1000), (b"k1", b"v", 1001), (b"k2", b"v", 1002),
    ]  # fmt: skip


def test_a_batch_that_is_corrupt_is_still_refused() -> None:
    data = bytearray(batch(["a"]))
    data[-3] ^= 0xFF
    assert not TolerantRecords(bytes(data)).next_batch().validate_crc()


class Coordinator:
    """What of a GroupCoordinator a join asks for; it notes what is sent."""

    member_id, generation, _group_instance_id, _rebalance_timeout_ms = "", -1, None, 60_000
    _lookup_assignor = GroupCoordinator._lookup_assignor

    def __init__(self) -> None:
        self._assignors = (PartitionNumberAssignor, RangePartitionAssignor)
        self._subscription = SimpleNamespace(subscription=SimpleNamespace(topics={"t"}))
        self.offered: list[list[str]] = []

    async def _send_req(self, request: object) -> object:
        if isinstance(request, JoinGroupRequest):
            self.offered.append([name for name, _ in request._group_protocols])
            if not self.member_id:
                return JoinGroupResponse_v5(0, 79, -1, "", "", "given", [])
            return JoinGroupResponse_v5(0, 0, 1, "range", "another", self.member_id, [])
        assert isinstance(request, SyncGroupRequest)
        return SimpleNamespace(error_code=0, member_assignment=b"")

    async def join(self) -> None:
        subscription = SimpleNamespace(topics={"t"}, active=True)
        await CoordinatorGroupRebalance(
            self, "group", 0, subscription, self._assignors, 10_000, 100
        ).perform_group_join()


async def test_a_member_with_two_assignors_joins_with_one_list_of_them() -> None:
    coordinator = Coordinator()
    join_at_once(SimpleNamespace(_coordinator=coordinator))
    await coordinator.join()
    await coordinator.join()
    all_of_them = ["anabranch", "range"]
    assert coordinator.offered == [all_of_them] * 3  # the first answer only gives it its id
    assert coordinator._lookup_assignor("range") is RangePartitionAssignor
    assert coordinator._lookup_assignor("sticky") is None


async def test_aiokafka_itself_still_joins_once_for_each_assignor() -> None:
    coordinator = Coordinator()
    coordinator.member_id = "given"
    await coordinator.join()
    assert coordinator.offered != [["anabranch", "range"]], "join_at_once is not needed any more"


def source_of(function: Callable[..., Any]) -> str:
    return inspect.getsource(function)


def consumer_of(**private: Any) -> Any:
    return SimpleNamespace(**private)


P0, P1 = TopicPartition("p.events", 0), TopicPartition("p.events", 1)


# -- that aiokafka still has what is reached into, and uses it as is thought here


@pytest.mark.parametrize(
    ("function", "uses"),
    [
        (AIOKafkaConsumer.start, ["self._coordinator = ", "self._fetcher = "]),
        (AIOKafkaConsumer.__init__, ["self._client = ", "self._subscription = "]),
        (AIOKafkaConsumer.getmany, ["self._coordinator.check_errors()",
                                    "self._fetcher.fetched_records("]),
        (AIOKafkaAdminClient.__init__, ["self._client = "]),
        (AIOKafkaProducer.__init__, ["self._txn_manager = "]),
        (AIOKafkaClient.__init__, ["self._conns = "]),
        (AIOKafkaConnection.__init__, ["self._writer = ", "self._protocol = ",
                                       "self._read_task = ", "self._requests = "]),
        (AIOKafkaConnection._handle_frame, ["self._requests[0]", "self._last_action = ",
                                            "self._requests.popleft()"]),
        (GroupCoordinator.__init__, ["self._coordination_task = ",
                                     "self._assignors = ", "self.generation = "]),
        (GroupCoordinator._handle_metadata_update, ["self._metadata_snapshot = "]),
        (GroupCoordinator._heartbeat_routine, ["await self._do_heartbeat()"]),
        (GroupCoordinator._do_heartbeat, ["await self._send_req("]),
        (GroupCoordinator._do_commit_offsets, ["await self._send_req("]),
        (CoordinatorGroupRebalance._on_join_leader, ["self._coordinator._perform_assignment("]),
        (CoordinatorGroupRebalance.perform_group_join, ["self._coordinator._send_req("]),
        (CoordinatorGroupRebalance._send_sync_group_request, ["self._coordinator._send_req("]),
        (Fetcher.__init__, ["self._prefetch_backoff = ", "self._records", "self._closed = ",
                            "self._subscriptions = ", "self._wait_consume_future = "]),
        (Fetcher._get_actions_per_node, ["self._records", ".calculate_backoff()"]),
        (Fetcher._fetch_requests_routine, ["self._wait_consume_future"]),
        (Fetcher._proc_fetch_request, ["= MemoryRecords(", "backoff=self._prefetch_backoff"]),
    ],
    ids=lambda value: value.__qualname__ if callable(value) else "",
)  # fmt: skip
def test_aiokafka_still_uses_what_is_reached_into(
    function: Callable[..., Any], uses: list[str]
) -> None:
    missing = [text for text in uses if text not in source_of(function)]
    assert not missing, f"{function.__qualname__} has changed: look through aiokafka_fixes"


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (AIOKafkaAdminClient, "_send_request", ["request", "node_id"]),
        (AIOKafkaAdminClient, "_send_to_controller", ["request"]),
        (AIOKafkaClient, "_wait_on_metadata", ["topic"]),
        (AIOKafkaClient, "set_topics", ["topics"]),
        (GroupCoordinator, "_send_req", ["request"]),
        (GroupCoordinator, "_do_heartbeat", []),
        (GroupCoordinator, "_perform_assignment", ["response"]),
        (GroupCoordinator, "check_errors", []),
        (GroupCoordinator, "_lookup_assignor", ["name"]),
        (Fetcher, "fetched_records", ["partitions", "timeout", "max_records"]),
        (Fetcher, "_notify", ["future"]),
        (SubscriptionState, "fetch_context", []),
        (TransactionManager, "increment_sequence_number", ["tp", "increment"]),
    ],
)
def test_aiokafkas_private_calls_have_the_same_parameters(
    owner: type, name: str, parameters: list[str]
) -> None:
    assert [*inspect.signature(getattr(owner, name)).parameters][1:] == parameters


async def test_a_consumer_has_a_subscription_with_the_state_of_each_partition() -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    assert isinstance(fixes.network_client(consumer), AIOKafkaClient)
    consumer.assign([P0])
    assert [*fixes.assigned_now(consumer)] == [P0]
    state = fixes.partition_state(consumer, P0)
    assert not state.has_valid_position
    assert (state.highwater, state.lso) == (None, None)
    assert fixes.partition_states(consumer) == [state]
    state.reset_to(7)
    assert state.position == 7
    assert state.timestamp is None
    consumer.unsubscribe()
    consumer.subscribe(["p.events"])
    assert [*fixes.assigned_now(consumer)] == fixes.partition_states(consumer) == []


# -- what is done with it


def test_the_error_of_a_member_whose_name_is_taken_is_known() -> None:
    assert for_code(82) is fixes.FencedInstanceId


class Group:
    """What a coordinator is asked."""

    def __init__(self) -> None:
        self.assigned = 0
        self.is_answered = True

    async def _send_req(self, request: object) -> object:
        return f"answer to {request}"

    async def _do_heartbeat(self) -> bool:
        return self.is_answered

    async def _perform_assignment(self, joined: object) -> None:
        self.assigned += 1


async def test_answers_are_observed_and_an_observer_may_refuse_one() -> None:
    group, seen = Group(), list[tuple[object, object]]()

    def refuse(request: object, _: object) -> None:
        if request == "commit":
            raise UnknownMemberIdError

    fixes.observe_answers(consumer_of(_coordinator=group), lambda *call: seen.append(call))
    fixes.observe_answers(consumer_of(_coordinator=group), refuse)
    assert await group._send_req("join") == "answer to join"
    with pytest.raises(UnknownMemberIdError):
        await group._send_req("commit")
    assert seen == [("join", "answer to join"), ("commit", "answer to commit")]


async def test_only_answered_heartbeats_are_observed() -> None:
    group, sent = Group(), list[float]()
    fixes.observe_heartbeats(consumer_of(_coordinator=group), sent.append)
    assert await group._do_heartbeat()
    group.is_answered = False
    assert not await group._do_heartbeat()
    assert len(sent) == 1


async def test_a_leader_waits_only_where_there_are_followers() -> None:
    group, waits = Group(), list[int]()

    async def wait() -> None:
        waits.append(group.assigned)

    fixes.delay_leader(consumer_of(_coordinator=group), wait)
    await group._perform_assignment(SimpleNamespace(members=["me"]))
    await group._perform_assignment(SimpleNamespace(members=["me", "another"]))
    assert (waits, group.assigned) == ([1], 2)


def test_what_a_coordinator_knows_is_told() -> None:
    def check_errors() -> None:
        raise KafkaError("unexpected answer")

    ended: asyncio.Future[None] = asyncio.Future(loop=asyncio.new_event_loop())
    consumer = consumer_of(
        _coordinator=SimpleNamespace(
            check_errors=check_errors, generation=4, _metadata_snapshot={"p.events": 3},
            _coordination_task=ended,
        )
    )  # fmt: skip
    with pytest.raises(KafkaError, match="unexpected"):
        fixes.raise_group_error(consumer)
    assert fixes.generation_of(consumer) == 4
    assert fixes.group_partitions(consumer, "p.events") == 3
    assert fixes.group_partitions(consumer, "p.others") is None
    assert not fixes.has_given_up_group(consumer)
    ended.set_result(None)
    assert fixes.has_given_up_group(consumer)
    ended.get_loop().close()


async def test_what_is_fetched_is_taken_and_what_is_paused_is_dropped() -> None:
    calls: list[object] = []

    async def fetched_records(*args: object, **options: object) -> dict[TopicPartition, list[Any]]:
        calls.append((args, options))
        return {P0: ["record"]}

    fetcher = SimpleNamespace(
        _closed=False, _records={P0: "large", P1: "large"}, _notify=calls.append,
        _wait_consume_future="asks", fetched_records=fetched_records,
        _subscriptions=SimpleNamespace(fetch_context=nullcontext), _prefetch_backoff=0.1,
    )  # fmt: skip
    consumer = consumer_of(_fetcher=fetcher)
    fixes.forget_fetched(consumer, None)
    assert [*fetcher._records] == [P0, P1]
    fixes.forget_fetched(consumer, {P0})
    assert [*fetcher._records] == [P0]
    assert await fixes.fetched_records(consumer, {P0}, 0.5, 10) == {P0: ["record"]}
    assert calls == ["asks", (({P0},), {"timeout": 0.5, "max_records": 10})]
    fixes.hold_back_fetches(consumer)
    assert fetcher._prefetch_backoff > 60
    fetcher._closed = True
    with pytest.raises(aiokafka.errors.ConsumerStoppedError):
        await fixes.fetched_records(consumer, {P0}, 0.5, 10)


async def test_a_batch_that_was_refused_leaves_no_gap_in_a_producers_sequence() -> None:
    sequences = TransactionManager(None, 1000)
    sequences.increment_sequence_number(P0, 5)
    fixes.forget_refused_batch(SimpleNamespace(_txn_manager=sequences), P0, 2)
    assert sequences.sequence_number(P0) == 3
    fixes.forget_refused_batch(SimpleNamespace(_txn_manager=None), P0, 2)


def test_connections_are_cut_without_sending_what_is_left() -> None:
    cut: list[str] = []
    transport = SimpleNamespace(
        get_extra_info=lambda _: SimpleNamespace(setsockopt=lambda *_: cut.append("no linger")),
        abort=lambda: cut.append("abort"),
    )
    writer = SimpleNamespace(transport=transport)
    connections = {
        1: SimpleNamespace(connected=lambda: True, _writer=writer),
        2: SimpleNamespace(connected=lambda: False, _writer=None),
    }
    fixes.sever(SimpleNamespace(client=SimpleNamespace(_conns=connections)))
    assert cut == ["no linger", "abort"]


async def _request_on_a_closed_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        connection = AIOKafkaConnection(host, port, request_timeout_ms=5000)
        connection._reader, connection._writer = await asyncio.open_connection(host, port)
        connection._read_task = asyncio.ensure_future(asyncio.sleep(60))
        connection._versions = {MetadataRequest.API_KEY: (0, 1)}
        connection._writer.transport.abort()
        await asyncio.sleep(0.05)
        assert connection._writer.transport.is_closing()
        with pytest.raises(KafkaConnectionError, match="handler is closed"):
            connection.send(MetadataRequest([]))
        assert connection._writer is None


def _end_without_closing_the_loop() -> None:
    """The loop waits for ever when it is closed while something of it is open."""
    fixes.break_as_connections_do()
    uvloop.new_event_loop().run_until_complete(_request_on_a_closed_connection())
    os._exit(0)


def test_a_request_on_a_connection_that_uvloop_has_closed_fails_as_on_any_broken_one() -> None:
    process = multiprocessing.get_context("spawn").Process(target=_end_without_closing_the_loop)
    process.start()
    process.join(120)
    process.kill()
    assert process.exitcode == 0


def test_every_consumer_reads_tolerantly() -> None:
    assert aiokafka.consumer.fetcher.MemoryRecords is TolerantRecords
