"""The gateway's HTTP interface."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from typing import Any
from uuid import uuid4

import orjson
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agents.gateway.access.guard import Guard
from agents.gateway.contracts.contract_routes import contract_router
from agents.gateway.event_reader import EventReader
from agents.gateway.gateway import Gateway
from agents.gateway.http_protocol import STREAM_PATH
from agents.gateway.inference.open_inference_routes import open_inference_router
from agents.gateway.lookup import Lookup
from agents.gateway.metrics import GatewayMetrics
from agents.gateway.openapi import (
    IDEMPOTENCY_KEY,
    SOURCE,
    document_guard,
    event_or_list,
    json_answer,
    parameter,
    reference,
    refusals,
    schemas,
)
from agents.gateway.predictions import Outcome, body_of
from agents.gateway.problem import PROBLEM_TYPE, InvalidParameter, Problem
from agents.gateway.requests import Parameters, body_of_request, check_json
from agents.gateway.stream.stream_routes import stream_router
from topics.errors import AnabranchError
from topics.records import Source

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]

_JSON = "application/json"
_SECURITY_HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]


def gateway_app(gateway: Gateway) -> ASGIApp:
    """The ASGI application of a pipeline's gateway."""
    name = gateway.pipeline.name
    app = FastAPI(
        title=f"Anabranch gateway: {name}", version="1",
        summary="Publishes events and answers with their decisions.",
        docs_url=None, redoc_url=None, openapi_url="/openapi.json",
    )  # fmt: skip
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_problem)
    predict = _add_predictions(app, gateway)
    app.include_router(stream_router(gateway.streams))
    _add_decisions(app, gateway)
    _add_monitoring(app, gateway)
    app.include_router(open_inference_router(gateway))
    app.include_router(contract_router(gateway))
    document = partial(_documented, app.openapi, gateway)
    app.openapi = cache(document)  # type: ignore[method-assign]
    return _Envelope(app, gateway.metrics, gateway.guard, {("POST", "/predict"): predict})


def _add_predictions(app: FastAPI, gateway: Gateway) -> Endpoint:
    """Add the route of `/predict`; what answers it."""
    limits = gateway.limits
    reader = EventReader(gateway.pipeline.event, gateway.pipeline.partitions, limits)
    decision = reference("Decision")
    explained = {"allOf": [decision, {"properties": {
        "explanation": {"anyOf": [reference("Explanation"), {"type": "null"}]},
        "explanation_error": {"type": "string"},
    }}]}  # fmt: skip
    parameters = [
        parameter("deadline_ms", "query", {"type": "integer", "minimum": 1,
                               "maximum": int(limits.longest_deadline_s * 1000),
                               "default": int(limits.deadline_s * 1000)},
               "How long to wait for the decisions."),
        parameter("explain", "query", {"type": "boolean", "default": False},
               "Add to each record why the event was decided so."),
        IDEMPOTENCY_KEY,
    ]  # fmt: skip

    @app.post(
        "/predict",
        summary="Publish an event, or a list of them, and answer with the decisions",
        description="The answer is the event's decision record as it stands on the decisions "
        "topic, or a list of them in the order of the events. 200 says that each has one.",
        responses={
            200: json_answer({"oneOf": [explained, {"type": "array", "items": explained}]},
                             "The decision records."),
            **refusals(400, 401, 403, 408, 413, 415, 422, 429, 503, 504),
        },
        openapi_extra={
            "parameters": parameters,
            "requestBody": {"required": True, "content": {_JSON: {"schema": event_or_list()}}},
        },
    )  # fmt: skip
    async def predict(request: Request) -> Response:
        given = Parameters(request, ("deadline_ms", "explain"))
        deadline_s = given.seconds("deadline_ms", limits.deadline_s, limits.longest_deadline_s)
        explain = given.flag("explain")
        check_json(request)
        question = reader.question(await body_of_request(request, limits))
        began = time.monotonic()
        outcomes = await gateway.decide(request, question.events, deadline_s)
        if explain:
            left_s = max(0.0, deadline_s - (time.monotonic() - began))
            outcomes = await _explained(gateway.lookup, outcomes, left_s)
        return Response(body_of(outcomes, is_list=question.is_list), media_type=_JSON)

    return predict


def _add_decisions(app: FastAPI, gateway: Gateway) -> None:
    lookup = gateway.lookup
    answers = {200: json_answer(reference("Decision"), "The decision record."),
               **refusals(400, 401, 403, 404, 409, 429, 503, 504)}  # fmt: skip
    since = parameter("since", "query", {"type": "string", "format": "date-time"},
                   "Look only at decisions that were written since then.")  # fmt: skip

    @app.get(
        "/decisions",
        summary="The decision about the event at some coordinates",
        responses=answers,
        openapi_extra={"parameters": [
            parameter("source", "query", {"type": "string", "pattern": SOURCE},
                      "TOPIC/PARTITION/OFFSET of the event.", required=True),
        ]},
    )  # fmt: skip
    async def by_source(request: Request) -> Response:
        word = Parameters(request, ("source",)).text("source")
        if word is None or Source.of(word.encode()) is None:
            raise InvalidParameter("source", "give the event's coordinates, TOPIC/PARTITION/OFFSET")
        record = await lookup.decision(word, since_ms=None, is_source=True)
        return Response(record, media_type=_JSON)

    @app.get(
        "/decisions/{event_id}",
        summary="The decision about the event of some id",
        description="All decisions that the topic keeps are read: by source is faster.",
        responses=answers,
        openapi_extra={"parameters": [since]},
    )
    async def by_id(event_id: str, request: Request) -> Response:
        time_ = Parameters(request, ("since",)).instant("since")
        since_ms = None if time_ is None else int(time_.timestamp() * 1000)
        record = await lookup.decision(event_id, since_ms=since_ms, is_source=False)
        return Response(record, media_type=_JSON)


def _add_monitoring(app: FastAPI, gateway: Gateway) -> None:
    @app.get(
        "/healthz", summary="Whether the gateway itself lives",
        responses={200: json_answer({"type": "object"}, "It lives.")},
    )  # fmt: skip
    async def healthz() -> Response:
        return Response(orjson.dumps({"live": True}), media_type=_JSON)

    @app.get(
        "/readyz", summary="Whether events would be published and decided now",
        responses={200: json_answer({"type": "object"}, "Ready."), **refusals(503)},
    )  # fmt: skip
    async def readyz() -> Response:
        gateway.session.publisher()
        return Response(orjson.dumps({"ready": True}), media_type=_JSON)

    @app.get(
        "/metrics", summary="Metrics for Prometheus",
        responses={200: {"description": "Prometheus' text format.",
                         "content": {"text/plain": {"schema": {"type": "string"}}}},
                   **refusals(401, 403)},
    )  # fmt: skip
    async def metrics() -> Response:
        text = generate_latest(gateway.metrics.registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)


async def _explained(lookup: Lookup, outcomes: list[Outcome], within_s: float) -> list[Outcome]:
    """The same, each decision with its explanation, or why it has none in that time."""
    explained: list[Outcome] = []
    until = asyncio.get_running_loop().time() + within_s
    for outcome in outcomes:
        record = outcome.decision
        if record is not None:
            try:
                async with asyncio.timeout_at(until):
                    addition = b'"explanation":' + await lookup.explanation(record)
            except (AnabranchError, Problem, TimeoutError) as exc:
                why = exc.detail if isinstance(exc, Problem) else str(exc)
                why = why or "it could not be computed before the deadline"
                addition = b'"explanation":null,"explanation_error":' + orjson.dumps(why)
            record = record.rstrip()[:-1] + b"," + addition + b"}"
        explained.append(Outcome(outcome.source, record, outcome.problem))
    return explained


# -- around every answer


class _Envelope:
    """Guards, counts requests, adds headers that keep browsers out, lets no stack trace out.

    What is asked most is called here: FastAPI's own way to it takes as long as deciding two events.
    """

    def __init__(
        self, app: ASGIApp, metrics: GatewayMetrics, guard: Guard,
        direct: Mapping[tuple[str, str], Endpoint],
    ) -> None:  # fmt: skip
        """*direct* has endpoints of *app* by method and path."""
        self._app, self._metrics, self._guard, self._direct = app, metrics, guard, direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, route = time.monotonic(), 0, "other"
        answered_at: float | None = None
        endpoint = self._direct.get((scope["method"], scope["path"]))

        async def sent(message: Message) -> None:
            nonlocal status, answered_at
            if message["type"] == "http.response.start":
                status = message["status"]
                if scope["path"] == STREAM_PATH:  # has no end that says how long it took
                    answered_at = time.monotonic()
                message["headers"] = [*message["headers"], *_SECURITY_HEADERS]
            await send(message)

        try:
            await self._guard.check(scope)
            if endpoint is None:
                await self._app(scope, receive, sent)
            else:
                route = scope["path"]
                response = await endpoint(Request(scope, receive))
                await response(scope, receive, sent)
        except Problem as problem:
            await _response(problem, scope)(scope, receive, sent)
        except Exception:  # the boundary to the caller, who sees a number and no traceback
            number = uuid4().hex
            log.exception("request %s failed", number)
            if not status:
                detail = f"an error of the gateway's own; its log has it as {number}"
                await _response(Problem(500, detail), scope)(scope, receive, sent)
        finally:
            route = getattr(scope.get("route"), "path", route)
            seconds = (answered_at or time.monotonic()) - began
            self._metrics.observe_request(route, status, seconds)


def _response(problem: Problem, scope: Scope) -> Response:
    if scope["path"] == "/v2" or scope["path"].startswith("/v2/"):
        status, body = problem.inference_error
        return Response(body, status, problem.headers, media_type=_JSON)
    return Response(problem.body, problem.status, problem.headers, media_type=PROBLEM_TYPE)


async def _problem(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, Problem):
        raise exc
    return _response(exc, request.scope)


async def _http_problem(request: Request, exc: Exception) -> Response:
    if not isinstance(exc, HTTPException):
        raise exc
    detail = f"{request.method} {request.url.path[:200]}: {exc.detail}; see /openapi.json"
    return _response(Problem(exc.status_code, detail, headers=exc.headers), request.scope)


# -- the documentation


def _documented(document: Callable[[], dict[str, Any]], gateway: Gateway) -> dict[str, Any]:
    """FastAPI's document, with the pipeline's own schemas, and without its 422 of validation."""
    spec = document()
    models = spec.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        models.pop(name, None)
    for methods in spec["paths"].values():
        for operation in methods.values():
            validation = operation["responses"].get("422", {}).get("content", {})
            if _JSON in validation:
                del operation["responses"]["422"]
    models |= schemas(gateway.pipeline)
    document_guard(spec, by_key=gateway.guard.asks_for_a_key)
    return spec
