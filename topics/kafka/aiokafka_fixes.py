r"""What aiokafka 0.14 does wrongly or has no call for: every reach into its private parts.

*Records.* Header keys need not be text. Kafka's protocol says that they are UTF-8, but no broker
checks it, and aiokafka gives up on the whole partition: one such record would stop every reader of
it, again and again. `TolerantRecords` makes readable text of the key, such as `trace\xff`, and
checks records faster (`has_valid_crc`).

*Groups.* A member that knows several assignors joins with one request (`join_at_once`); it learns
of the broker's answers (`observe_answers`, `observe_heartbeats`), and of errors that would keep it
out for ever (`raise_group_error`).

*Fetches.* What is fetched is taken without aiokafka's own per-call checks (`fetched_records`), and
dropped where nobody reads it now (`forget_fetched`).

*Clients.* Topics are made known (`learn_topics`), requests sent that there is no call for
(`send_admin_request`), a producer cut off or set right again (`sever`, `forget_refused_batch`),
and a connection's answers received by another protocol than aiokafka's (`receive_by`). A request on
a connection that uvloop has closed already fails as on any broken one (`break_as_connections_do`).

All of it is checked against aiokafka in tests/unit/test_aiokafka_fixes.py.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.consumer import fetcher
from aiokafka.errors import (
    BrokerResponseError,
    ConsumerStoppedError,
    KafkaConnectionError,
    kafka_errors,
)
from aiokafka.protocol.group import JoinGroupRequest
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import ConsumerRecord, TopicPartition
from google_crc32c import value as crc32c

_UNTIL_TAKEN_UP_S = 3600.0
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: a close drops what the kernel has not sent yet."""
_BATCH_LENGTH = 12
"""Bytes of a record batch that its length does not count: its offset, and the length itself."""
_MAGIC_AT, _CRC_AT, _CHECKED_FROM = 16, 17, 21
"""In a record batch; its CRC is of everything from the attributes on."""


# -- groups


class FencedInstanceId(BrokerResponseError):  # type: ignore[misc]  # aiokafka has no types
    """Another member of the group has joined by our name (Kafka's error 82, new to aiokafka)."""

    errno = 82
    message = "FENCED_INSTANCE_ID"


kafka_errors[FencedInstanceId.errno] = FencedInstanceId


def join_at_once(consumer: AIOKafkaConsumer) -> None:
    """Have *consumer* name all its assignors in one request when it joins its group.

    aiokafka sends a request after each assignor that it adds to the list (aio-libs/aiokafka#1168).
    To a broker a member whose list is another one has changed, and all have to join again: two
    members of a group that start at once may do that to each other for ever.
    """
    coordinator = consumer._coordinator
    assignors = {each.name: each for each in coordinator._assignors}
    send = coordinator._send_req

    async def send_req(request: Any) -> Any:
        if isinstance(request, JoinGroupRequest):
            topics = coordinator._subscription.subscription.topics
            request._group_protocols = [
                (name, each.metadata(topics).encode()) for name, each in assignors.items()
            ]
        return await send(request)

    coordinator._assignors = tuple(assignors.values())[:1]  # one turn of aiokafka's loop over them
    coordinator._lookup_assignor = assignors.get
    coordinator._send_req = send_req


def observe_answers(consumer: AIOKafkaConsumer, observe: Callable[[Any, Any], None]) -> None:
    """Call *observe* with each request to the group's coordinator, and the broker's answer.

    What it raises reaches the caller in place of the answer.
    """
    coordinator = consumer._coordinator
    send = coordinator._send_req

    async def send_req(request: Any) -> Any:
        answer = await send(request)
        observe(request, answer)
        return answer

    coordinator._send_req = send_req


def observe_heartbeats(consumer: AIOKafkaConsumer, observe: Callable[[float], None]) -> None:
    """Call *observe* with the time (monotonic) at which each answered heartbeat was sent."""
    coordinator = consumer._coordinator
    beat = coordinator._do_heartbeat

    async def heartbeat() -> bool:
        sent_at = time.monotonic()
        is_answered: bool = await beat()
        if is_answered:
            observe(sent_at)
        return is_answered

    coordinator._do_heartbeat = heartbeat


def delay_leader(consumer: AIOKafkaConsumer, delay: Callable[[], Awaitable[None]]) -> None:
    """Await *delay* before this member, the leader of a group of several, deals partitions out."""
    coordinator = consumer._coordinator
    assign = coordinator._perform_assignment

    async def perform_assignment(join_answer: Any) -> Any:
        if len(join_answer.members) > 1:
            await delay()
        return await assign(join_answer)

    coordinator._perform_assignment = perform_assignment


def raise_group_error(consumer: AIOKafkaConsumer) -> None:
    """Raise the KafkaError for which aiokafka has stopped to join the group, if there is one.

    After an unexpected answer to a join or a sync it waits until somebody has asked for the error;
    its own `getmany` asks, `fetched_records` does not.
    """
    consumer._coordinator.check_errors()


def has_given_up_group(consumer: AIOKafkaConsumer) -> bool:
    """Whether aiokafka has ended the task that joins the group, and will not join again."""
    return bool(consumer._coordinator._coordination_task.done())


def generation_of(consumer: AIOKafkaConsumer) -> int:
    """The generation of the group that the consumer is a member of."""
    return int(consumer._coordinator.generation)


def group_partitions(consumer: AIOKafkaConsumer, topic: str) -> int | None:
    """How many partitions the member knew *topic* to have when it joined; None if none."""
    count: int | None = consumer._coordinator._metadata_snapshot.get(topic)
    return count


# -- fetches


def hold_back_fetches(consumer: AIOKafkaConsumer) -> None:
    """Ask a broker for nothing more while anything that it has sent is not taken up.

    Else a worker that is busy would soon hold an answer, or a large record, of each partition.
    """
    consumer._fetcher._prefetch_backoff = _UNTIL_TAKEN_UP_S


async def fetched_records(
    consumer: AIOKafkaConsumer,
    partitions: Collection[TopicPartition] | None,
    timeout_s: float,
    max_records: int | None,
) -> dict[TopicPartition, list[ConsumerRecord]]:
    """What has been fetched of *partitions* (of all where None), or comes within *timeout_s*."""
    source = consumer._fetcher
    if source._closed:
        raise ConsumerStoppedError
    with source._subscriptions.fetch_context():
        records: dict[TopicPartition, list[ConsumerRecord]] = await source.fetched_records(
            partitions, timeout=timeout_s, max_records=max_records
        )
    return records


def forget_fetched(consumer: AIOKafkaConsumer, kept: Collection[TopicPartition] | None) -> None:
    """Drop what was fetched of other partitions than those *kept*: it is fetched again later.

    While it is there nobody takes it up, and nothing else is fetched, see `hold_back_fetches`.
    """
    source = consumer._fetcher
    for tp in list(source._records):
        if kept is not None and tp not in kept:
            del source._records[tp]
            source._notify(source._wait_consume_future)


def partition_state(consumer: AIOKafkaConsumer, tp: TopicPartition) -> Any:
    """Aiokafka's state of an assigned partition: position, highwater, lso, time of the answer."""
    return consumer._subscription.subscription.assignment.state_value(tp)


def partition_states(consumer: AIOKafkaConsumer) -> list[Any]:
    """The states of all assigned partitions; none before the first assignment."""
    assignment = consumer._subscription.subscription.assignment
    return [assignment.state_value(tp) for tp in assignment.tps] if assignment is not None else []


def assigned_now(consumer: AIOKafkaConsumer) -> Collection[TopicPartition]:
    """The assigned partitions; none before the first assignment."""
    assignment = consumer._subscription.subscription.assignment
    return assignment.tps if assignment is not None else ()


# -- clients


def network_client(owner: AIOKafkaConsumer | AIOKafkaAdminClient) -> AIOKafkaClient:
    """The client below a consumer or an admin client: its connections and its metadata."""
    return owner._client


async def learn_topics(consumer: AIOKafkaConsumer, topics: Iterable[str]) -> None:
    """Wait until the metadata of each of *topics* is known, one after the other."""
    for topic in topics:
        await consumer._client._wait_on_metadata(topic)


async def learn_topics_at_once(consumer: AIOKafkaConsumer, topics: Iterable[str]) -> None:
    """Know all *topics*: a client asks for one after the other, with a pause of 100 ms each."""
    await consumer._client.set_topics(set(topics))


async def send_admin_request(admin: AIOKafkaAdminClient, request: Any, node: Any = None) -> Any:
    """The answer of broker *node* (of any one if None) to a request that has no call of its own."""
    return await admin._send_request(request, node)


async def send_to_controller(admin: AIOKafkaAdminClient, request: Any) -> Any:
    """The controller's answer to a request that there is no call for."""
    return await admin._send_to_controller(request)


def forget_refused_batch(producer: AIOKafkaProducer, tp: TopicPartition, count: int) -> None:
    """Have an idempotent *producer* forget a batch that the broker has refused for its size.

    aiokafka counts records as it sends them: the broker would refuse all later batches of the
    partition for a gap in their sequence.
    """
    sequences = producer._txn_manager
    if sequences is not None:
        sequences.increment_sequence_number(tp, -count)


def sever(producer: AIOKafkaProducer) -> None:
    """Cut all connections; not even what the kernel still has of a request is sent."""
    for connection in producer.client._conns.values():
        if not connection.connected():
            continue  # aiokafka keeps closed ones in its list
        transport = connection._writer.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()


def break_as_connections_do() -> None:
    """Have requests on closed connections of this process raise KafkaConnectionError.

    aiokafka looks for OSError there. uvloop raises RuntimeError between the end of a connection and
    the moment when aiokafka hears of it: that ended the agent, and not the wait for the broker.
    """
    AIOKafkaConnection.send = _send


_send_unguarded = AIOKafkaConnection.send


def _send(self: Any, request: Any, expect_response: bool = True) -> Any:  # aiokafka's
    try:
        return _send_unguarded(self, request, expect_response)
    except RuntimeError as exc:
        if self._writer is None or not self._writer.transport.is_closing():
            raise
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {exc}") from exc


def data_connection(client: AIOKafkaClient, node: int) -> Any:
    """The connection by which *client*, which is ready for broker *node*, fetches from it."""
    return client._conns[node, ConnectionGroup.DEFAULT]


def receive_by(connection: Any, protocol: type[Any]) -> None:
    """Have *connection*, which waits for no answer, receive by a *protocol* of asyncio.

    It is made with the connection and the protocol before it, and calls `give_answer`.
    """
    transport = connection._writer.transport
    if isinstance(transport.get_protocol(), protocol):
        return
    connection._read_task.cancel()
    transport.pause_reading()  # uvloop asks for the kind of a protocol as it begins to read
    transport.set_protocol(protocol(connection, connection._protocol))
    transport.resume_reading()


def give_answer(connection: Any, answer: Any) -> None:
    """Hand *answer*, a file, to who waits for it, as aiokafka's `_handle_frame` does."""
    correlation_id, request, waiting = connection._requests[0]
    if request.parse_response_header(answer).correlation_id != correlation_id:
        connection.close(reason=CloseReason.OUT_OF_SYNC)
        return
    if not waiting.done():
        waiting.set_result(request.RESPONSE_TYPE.decode(answer))
    connection._last_action = time.monotonic()
    connection._requests.popleft()


# -- records


def read_tolerantly() -> None:
    """Have every consumer of this process read with `TolerantRecords`."""
    fetcher.MemoryRecords = TolerantRecords


class TolerantRecords:
    """What a fetch has brought of a partition, batch by batch; aiokafka's interface."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._records = MemoryRecords(data)
        self._next = 0
        """Where the next batch begins."""
        self.has_next = self._records.has_next
        self.size_in_bytes = self._records.size_in_bytes

    def next_batch(self) -> TolerantBatch:
        """The next batch, undecoded."""
        start = self._next
        self._next += _BATCH_LENGTH + int.from_bytes(self._data[start + 8 : start + 12], "big")
        return TolerantBatch(self._records.next_batch(), self._data, start, self._next)


class TolerantBatch:
    """A batch that decodes itself as aiokafka does, and with more patience if that fails."""

    def __init__(self, batch: Any, data: bytes, start: int, end: int) -> None:
        self._batch = batch
        self._data = data
        self._start = start
        self._end = end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:  # aiokafka's fast decoder keeps its bytes to itself
            return iter(list(_PatientBatch(bytearray(self._data[self._start : self._end]))))

    def validate_crc(self) -> bool:
        """Whether its checksum is right."""
        if self._data[self._start + _MAGIC_AT] < 2:  # version 2 of the format
            return bool(self._batch.validate_crc())
        return has_valid_crc(self._data, self._start, self._end)


def has_valid_crc(data: bytes | memoryview, start: int, end: int) -> bool:
    """Whether the checksum of the batch in data[start:end] (version 2 of the format) is right.

    By the processor's instructions: aiokafka's table takes as long as all else that reads a topic.
    """
    crc: int = crc32c(bytes(data[start + _CHECKED_FROM : end]))
    return crc == int.from_bytes(data[start + _CRC_AT : start + _CHECKED_FROM], "big")


class _PatientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # aiokafka has no types
    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer: bytearray = _Readable(self._buffer)


class _Readable(bytearray):
    """Bytes that always decode: what is no text is written as its hexadecimal code."""

    def __getitem__(self, at: Any) -> Any:
        got = super().__getitem__(at)
        return _Readable(got) if isinstance(at, slice) else got

    def decode(self, encoding: str = "utf-8", errors: str = "") -> str:  # noqa: ARG002  # its interface
        return bytes(self).decode(encoding, "backslashreplace")
