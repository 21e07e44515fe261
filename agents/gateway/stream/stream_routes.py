"""GET /decisions/stream: decisions as server-sent events."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.types import Receive, Scope, Send

from agents.gateway.access.guard import Guard
from agents.gateway.broker_session import BrokerSession
from agents.gateway.http_protocol import STREAM_PATH
from agents.gateway.limits import Limits
from agents.gateway.metrics import GatewayMetrics
from agents.gateway.openapi import parameter, refusals
from agents.gateway.problem import InvalidParameter, Overloaded
from agents.gateway.requests import Parameters
from agents.gateway.stream.decision_stream import DecisionStream
from agents.gateway.stream.past_decisions import PastDecisions
from agents.gateway.stream.stream_filter import (
    DECIDED_BY,
    FILTERS,
    StreamFilter,
    decisions_of,
    filter_of,
    stages_of,
)
from agents.gateway.stream.stream_position import Position, position_of
from agents.process.tasks import first_of
from topics.pipeline import Pipeline

EVENT_STREAM = "text/event-stream"
_LAST_ID = "Last-Event-ID"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events until it has many
]
_PIECE_BYTES = 2**17
"""A connection that is slow holds so much of what all share as a copy of its own."""
_CHECK_S = 5.0
"""So often it is looked at whether the caller may still do what it does."""


class DecisionStreams:
    """All callers of the stream."""

    def __init__(
        self, pipeline: Pipeline, session: BrokerSession, past: PastDecisions, limits: Limits,
        metrics: GatewayMetrics, guard: Guard, stopping: asyncio.Event,
    ) -> None:  # fmt: skip
        self.pipeline, self._session, self._past = pipeline, session, past
        self._limits, self._metrics, self._guard = limits, metrics, guard
        self._stopping = stopping
        self._open = 0
        metrics.count_streams(lambda: self._open)

    def response(self, request: Request) -> Response:
        """The stream that a request asks for. Raises Problem."""
        given = Parameters(request, (*FILTERS, "from"))
        wanted = filter_of(given, self.pipeline)
        since_ms, start = 0, self._last_seen(request, wanted)
        if start is None:
            word = given.text("from") or "end"
            if word == "end":
                start = self._session.live_position(wanted)
            elif word != "beginning":
                time = given.instant("from")
                since_ms = 0 if time is None else max(0, int(time.timestamp() * 1000))
        self._session.live_position(wanted)  # or there is no broker
        stream = DecisionStream(
            self._session.live, self._past, wanted, start, since_ms, self._limits.stream_bytes,
            self._metrics.observe_streamed,
        )  # fmt: skip
        return _StreamResponse(self, stream)

    def _last_seen(self, request: Request, wanted: StreamFilter) -> Position | None:
        text = request.headers.get(_LAST_ID)
        if not text:
            return None
        try:
            return position_of(
                text, self.pipeline.partitions, with_dead_letters=wanted.dead_letters
            )
        except ValueError as exc:
            raise InvalidParameter(_LAST_ID, str(exc)) from exc

    async def run(self, stream: DecisionStream, scope: Scope, receive: Receive, send: Send) -> None:
        """Send *stream* until the caller goes away or may no longer, or the gateway ends.

        Raises Overloaded before anything is sent.
        """
        if self._open >= self._limits.streams:
            raise Overloaded(
                f"{self._open} streams are open, and no more than {self._limits.streams} may be: "
                "come again"
            )

        async def send_content(content: bytes) -> None:
            for at in range(0, len(content), _PIECE_BYTES):
                piece = content[at : at + _PIECE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async def forbidden() -> None:
            while await self._guard.still_allows(scope):  # noqa: ASYNC110  # it has to be asked
                await asyncio.sleep(_CHECK_S)

        self._open += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await first_of(lambda: stream.run(send_content), gone, forbidden, self._stopping.wait)
        finally:
            self._open -= 1
            if stream.shed_events:
                self._metrics.observe_shed(stream.shed_events)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _StreamResponse(Response):
    """A stream, once it is asked for its content."""

    def __init__(self, streams: DecisionStreams, stream: DecisionStream) -> None:
        super().__init__(media_type=EVENT_STREAM)
        self._streams, self._stream = streams, stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await self._streams.run(self._stream, scope, receive, send)


def stream_router(streams: DecisionStreams) -> APIRouter:
    """GET /decisions/stream; to be added before what takes any word there for an event's id."""
    router = APIRouter()

    @router.get(
        STREAM_PATH,
        summary="Decisions as they are made, as server-sent events",
        description="`event: decision`, `data:` the decision record as it stands on its topic. "
        "With an event's `id` as Last-Event-ID a stream goes on right behind it; what the broker "
        "has deleted meanwhile is told by `event: gap`. `event: shed` is the last one for a "
        "caller that reads too slowly, who may connect again. Never ends by itself.",
        response_class=Response,
        responses={
            200: {"description": "Events, without end.",
                  "content": {EVENT_STREAM: {"schema": {"type": "string"}}}},
            **refusals(400, 401, 403, 429, 503),
        },
        openapi_extra={"parameters": _parameters(streams.pipeline)},
    )  # fmt: skip
    async def stream(request: Request) -> Response:
        return streams.response(request)

    return router


def _parameters(pipeline: Pipeline) -> list[dict[str, Any]]:
    share = {"type": "number", "minimum": 0, "maximum": 1}
    flag = {"type": "boolean"}
    decisions = {"type": "string", "enum": decisions_of(pipeline)}
    return [
        parameter("from", "query", {"type": "string", "default": "end"},
                  "beginning, end, or a time: since when. Last-Event-ID goes before it."),
        {**parameter("decision", "query", {"type": "array", "items": decisions},
                     "Decided so; several with commas."), "style": "form", "explode": False},
        parameter("min_score", "query", share, "Scored so much or more."),
        parameter("max_score", "query", share, "Scored so much or less."),
        parameter("degraded", "query", flag, "Whether some stage gave no signal."),
        parameter("decided_by", "query", {"type": "string", "enum": [*DECIDED_BY]},
                  "late: without a score, as some stage was late."),
        parameter("explored", "query", flag, "Whether it was taken by chance, not by the policy."),
        parameter("event_id", "query", {"type": "string"}, "About the events of that id."),
        parameter("stage", "query", {"type": "string", "enum": stages_of(pipeline)},
                  "Decisions that lack its signal, and dead letters that it made."),
        parameter("dead_letters", "query", {**flag, "default": False},
                  "Dead letters too, as `event: dead-letter`; of the other parameters event_id, "
                  "stage and from are about them."),
        {"name": _LAST_ID, "in": "header", "required": False, "schema": {"type": "string"},
         "description": "The id of the last event that was seen."},
    ]  # fmt: skip
