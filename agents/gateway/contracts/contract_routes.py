"""The routes of others' contracts: CloudEvents over HTTP, and SageMaker's container."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request, Response

from agents.gateway.contracts.cloud_events import BATCH, REQUIRED, STRUCTURED, event_data
from agents.gateway.contracts.sagemaker import CSV, LINES, answer_of, items_of_csv, items_of_lines
from agents.gateway.event_reader import EventReader
from agents.gateway.gateway import Gateway
from agents.gateway.openapi import event_or_list, json_answer, parameter, reference, refusals
from agents.gateway.predictions import body_of
from agents.gateway.requests import Parameters, body_of_request, check_encoding, check_json

_JSON = "application/json"
_ANY_ANSWER = {"schema": {"anyOf": [
    reference("Decision"), {"type": "array", "items": reference("Decision")},
]}}  # fmt: skip
_TEXT = {"schema": {"type": "string", "minLength": 1}}
_CONCURRENT = 32


def contract_router(gateway: Gateway) -> APIRouter:
    """POST /events, and /ping with /invocations."""
    router, routes = APIRouter(), _Routes(gateway)
    router.post(
        "/events", status_code=202, summary="Publish CloudEvents, and wait for no decision",
        description="202 says that the broker has them; `sources` are their coordinates.",
        responses={202: json_answer(reference("Published"), "Published."),
                   **refusals(400, 401, 403, 408, 413, 415, 429, 503)},
        openapi_extra={"requestBody": {"required": True, "content": {
            _JSON: {"schema": reference("Event")},
            STRUCTURED: {"schema": reference("CloudEvent")},
            BATCH: {"schema": {
                "type": "array", "items": reference("CloudEvent"), "minItems": 1,
            }},
        }}, "parameters": [
            parameter(f"ce-{name}", "header", {"type": "string", "minLength": 1},
                      f"With {_JSON}, which is the binary mode.")
            for name in REQUIRED
        ]},
    )(routes.events)  # fmt: skip
    router.get(
        "/ping", summary="SageMaker: whether it can answer", response_class=Response,
        responses={200: {"description": "It can."}, **refusals(503)},
    )(routes.ping)  # fmt: skip
    router.get(
        "/execution-parameters", summary="SageMaker: how a batch transform is to ask",
        responses={200: json_answer({"type": "object"}, "Record by record, and how large.")},
    )(routes.execution_parameters)  # fmt: skip
    router.post(
        "/invocations", summary="SageMaker: an event or several, answered with their decisions",
        responses={200: {"description": "The decision records, in the form of the request.",
                         "content": {_JSON: _ANY_ANSWER, LINES[0]: _TEXT, CSV: _TEXT}},
                   **refusals(400, 401, 403, 408, 413, 415, 422, 429, 503, 504)},
        openapi_extra={"requestBody": {"required": True, "content": {
            _JSON: {"schema": event_or_list()}, LINES[0]: _TEXT, CSV: _TEXT,
        }}},
    )(routes.invocations)  # fmt: skip
    return router


class _Routes:
    """Each method is a route."""

    def __init__(self, gateway: Gateway) -> None:
        pipeline, self._limits = gateway.pipeline, gateway.limits
        self._gateway, self._schema = gateway, pipeline.event
        self._reader = EventReader(pipeline.event, pipeline.partitions, gateway.limits)

    async def events(self, request: Request) -> Response:
        Parameters(request, ())
        check_encoding(request)
        body = await body_of_request(request, self._limits)
        kind = request.headers.get("content-type", "")
        events = self._reader.events(event_data(kind, request.headers, body))
        sources = await self._gateway.predictions.publish(events, self._limits.deadline_s)
        return Response(orjson.dumps({"sources": sources}), 202, media_type=_JSON)

    async def ping(self) -> Response:
        self._gateway.session.publisher()
        return Response()

    async def execution_parameters(self) -> Response:
        limits = self._limits
        return Response(orjson.dumps({
            "MaxConcurrentTransforms": max(1, min(_CONCURRENT, limits.in_flight)),
            "BatchStrategy": "SINGLE_RECORD",  # or it fills requests up to the bytes, not events
            "MaxPayloadInMB": max(1, limits.body_bytes // 2**20),
        }), media_type=_JSON)  # fmt: skip

    async def invocations(self, request: Request) -> Response:
        Parameters(request, ())
        check_encoding(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_list = True
        if kind == CSV or kind in LINES:
            body = await body_of_request(request, self._limits)
            items = items_of_csv(self._schema, body) if kind == CSV else items_of_lines(body)
            events = self._reader.events(items)
        else:
            check_json(request)
            question = self._reader.question(await body_of_request(request, self._limits))
            events, is_list, kind = question.events, question.is_list, _JSON
        outcomes = await self._gateway.decide(request, events, self._limits.deadline_s)
        body = body_of(outcomes, is_list=is_list)
        if kind != _JSON:
            records = [each.decision for each in outcomes if each.decision is not None]
            body = answer_of(records, kind)
        return Response(body, media_type=kind)
