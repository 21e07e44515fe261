"""Answers are received whole, in pieces of any size, and who waits for one is told of its end."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.admin import ApiVersionRequest
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v4

from agents.broker.fetch_connection import receive_in_place

VERSIONS = struct.pack(">hi", 0, 2) + struct.pack(">hhh", 1, 0, 4) + struct.pack(">hhh", 18, 0, 0)
"""Fetch up to version 4, and ApiVersions."""
RECORDS = [b"", b"few", b"many" * 100_000]


class Server:
    """Answers requests with what it is given, in pieces; closes the connection after that."""

    def __init__(self, answers: list[bytes], piece: int) -> None:
        self.answers = answers
        self.piece = piece

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in [VERSIONS, *self.answers]:
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            request = await reader.readexactly(size)
            content = request[4:8] + answer  # the number of the request
            sent = struct.pack(">i", len(content)) + content
            for at in range(0, len(sent), self.piece):
                writer.write(sent[at : at + self.piece])
                await writer.drain()
                await asyncio.sleep(0)
        await reader.read(4)
        writer.close()


@asynccontextmanager
async def connected(answers: list[bytes], piece: int = 2**16) -> AsyncIterator[Any]:
    server = await asyncio.start_server(Server(answers, piece).serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    connection = await create_conn(host, port)
    receive_in_place(connection)
    receive_in_place(connection)  # that it is so already changes nothing
    try:
        yield connection
    finally:
        connection.close()
        await asyncio.sleep(0)
        server.close()
        await server.wait_closed()


def fetch() -> FetchRequest:
    return FetchRequest(100, 1, 2**20, 1, [("t", [(0, 0, 2**20)])])


def answer_with(records: list[bytes]) -> bytes:
    parts = [(number, 0, 9, 9, [(7, 3)], some) for number, some in enumerate(records)]
    encoded: bytes = FetchResponse_v4(throttle_time_ms=0, topics=[("t", parts)]).encode()
    return encoded


@pytest.mark.parametrize("piece", [1000, 2**16, 2**20])
async def test_an_answer_is_what_the_broker_has_sent(piece: int) -> None:
    async with connected([answer_with(RECORDS), answer_with([b"x"])], piece) as connection:
        first, second = await asyncio.gather(connection.send(fetch()), connection.send(fetch()))
    ((topic, parts),) = first.topics
    assert topic == "t"
    assert [bytes(part[-1]) for part in parts] == RECORDS
    assert parts[0][-2] == [(7, 3)]
    assert isinstance(parts[2][-1], memoryview), "its records have been copied"
    assert bytes(second.topics[0][1][0][-1]) == b"x"


async def test_other_requests_are_answered_too() -> None:
    async with connected([VERSIONS]) as connection:
        answer = await connection.send(ApiVersionRequest())
    assert answer.api_versions == [(1, 0, 4), (18, 0, 0)]


async def test_who_waits_is_told_that_the_connection_is_lost() -> None:
    async with connected([]) as connection:
        with pytest.raises(KafkaConnectionError):
            await connection.send(fetch())
        assert not connection.connected()
