"""A connection that can hold up nobody: its head is bounded in bytes and in time.

uvicorn bounds neither. A head that is too large is answered 431, one that does not come 408; a
caller who has ended its own direction of the connection still gets its answer, unless that has no
end; one that does not read its answer is cut off. Requests that come one behind the other are
answered in their order, and more are read when all are answered; uvicorn reads on with each answer,
and answers what is no request before the requests that came first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 32 * 1024
HEAD_WITHIN_S = 10.0
STREAM_PATH = "/decisions/stream"
"""What is asked for there has no end: who has ended its direction has gone away."""
_READ_WITHIN_S = 60.0
"""A caller that has not read anything for so long is cut off."""
MAX_BEHIND = 100
"""Requests of a connection that wait for the one before them."""


class TooManyBehind(Exception):
    """More requests come one behind the other than are remembered."""


class _Flow(FlowControl):
    """Reads no more of a connection while some of its requests wait: *behind*."""

    def __init__(self, transport: asyncio.Transport, behind: deque[Any]) -> None:
        super().__init__(transport)
        self._behind = behind

    def resume_reading(self) -> None:
        """Read on, unless requests wait."""
        if not self._behind:
            super().resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """One connection of the gateway."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._half_closed = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._unanswered = 0
        self._no_request: str | None = None
        """What is wrong with what came last, told once the requests before are answered."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's
        """The first head is to come soon."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing comes any more."""
        self._end_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come, unless it is too much of a head, or follows what is no request."""
        if self._no_request is not None:
            return
        if self._in_head:
            if self._head_timer is None:
                self._await_head()
            self._head_bytes += len(data)
            # One piece may hold a head's end and its body: only what is no end yet counts alone.
            if self._head_bytes > MAX_HEAD_BYTES and self._head_is_longer(data):
                self._refuse(431, f"the head of a request has {MAX_HEAD_BYTES:,} bytes at most")
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """The head is here; the next one is counted anew. Raises TooManyBehind."""
        self._in_head = False
        self._end_timer()
        if len(self.pipeline) >= MAX_BEHIND:
            raise TooManyBehind
        super().on_headers_complete()
        self._unanswered += 1

    def on_message_complete(self) -> None:
        """The body is here: what comes next is a head."""
        super().on_message_complete()
        self._in_head, self._head_bytes = True, 0

    def on_response_complete(self) -> None:
        """Answered; the last answer of who asks no more, or sends no request, ends it."""
        super().on_response_complete()
        self._unanswered -= 1
        self.flow.resume_reading()
        if self._unanswered or self.transport.is_closing():
            return
        if self._no_request is not None:
            super().send_400_response(self._no_request)
        elif self._half_closed:
            self.transport.close()

    def pause_writing(self) -> None:
        """The caller is to read before more is written, and soon."""
        super().pause_writing()
        self._read_timer = self.loop.call_later(_READ_WITHIN_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The caller has read."""
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What came is no request: *msg* is told after the answers to those before."""
        cycle, is_body = self.cycle, self.cycle is not None and self.cycle.more_body
        if is_body and self.pipeline:  # the newest waits behind others, and will never be whole
            self.pipeline.popleft()
            self._unanswered -= 1
        elif is_body and cycle.response_started and not cycle.response_complete:
            self.transport.close()
            return
        elif is_body or not self._unanswered:
            super().send_400_response(msg)
            return
        self._no_request = msg

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio's
        """The caller says no more; it still reads, if it waits for an answer."""
        self._half_closed = True
        waits = bool(self._unanswered) and self.cycle.scope["path"] != STREAM_PATH
        return waits and self.scheme == "http" and not self.cycle.more_body

    def _head_is_longer(self, data: bytes) -> bool:
        end = data.find(b"\r\n\r\n")
        before = self._head_bytes - len(data)
        return end < 0 or before + end > MAX_HEAD_BYTES

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_WITHIN_S, self._is_late)

    def _end_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _is_late(self) -> None:
        self._head_timer = None
        if self._head_bytes:
            self._refuse(408, f"the head of a request is to come within {HEAD_WITHIN_S:g} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, detail: str) -> None:
        if self.transport.is_closing():
            return
        from agents.gateway.problem import PROBLEM_TYPE, Problem

        body = Problem(status, detail).body
        head = (
            f"HTTP/1.1 {status} Refused\r\ncontent-type: {PROBLEM_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
