"""The routes of the Open Inference Protocol v2 (REST)."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from agents.gateway.event_reader import EventReader
from agents.gateway.gateway import Gateway
from agents.gateway.inference.open_inference import SERVER, VERSION, InferenceModel
from agents.gateway.openapi import IDEMPOTENCY_KEY, json_answer, parameter, reference, refusals
from agents.gateway.predictions import body_of
from agents.gateway.problem import InvalidParameter
from agents.gateway.requests import body_of_request, check_encoding

_JSON, _BINARY = "application/json", "application/octet-stream"
_LENGTH = "inference-header-content-length"
_OBJECT = {"type": "object"}
_RAW = {"schema": {"type": "string", "minLength": 1}}


def open_inference_router(gateway: Gateway) -> APIRouter:
    """Everything below /v2, for a pipeline as a model of its name and one version."""
    answered: dict[int | str, dict[str, Any]] = {200: {
        "description": "The outputs; with raw data behind the JSON where these are asked for.",
        "content": {_JSON: {"schema": reference("InferenceResponse")}, _BINARY: _RAW},
    }}  # fmt: skip
    router, of_it = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"]), _Model(gateway)
    answer: dict[int | str, dict[str, Any]] = {200: json_answer(_OBJECT, "See the protocol.")}
    known = answer | refusals(400, 401, 403, 404, 503, style="v2")
    asked = known | answered | refusals(408, 413, 415, 429, 504, style="v2")
    open_ = answer | refusals(503, style="v2")
    router.get("", summary="The server", responses=known)(_server)
    router.get("/health/live", summary="Whether the server lives", responses=answer)(_live)
    router.get("/health/ready", summary="Whether it can infer", responses=open_)(of_it.health)
    for path, names in (("", ("model",)), ("/versions/{version}", ("model", "version"))):
        place, of = f"/models/{{model}}{path}", " of a version" if path else ""
        values = {"model": gateway.pipeline.name, "version": VERSION}
        extra = {"parameters": [
            parameter(name, "path", {"type": "string", "enum": [values[name]]}) for name in names
        ]}  # fmt: skip
        post = {
            "requestBody": {"required": True, "content": {
                _JSON: {"schema": reference("InferenceRequest")}, _BINARY: _RAW,
            }},
            "parameters": [
                *extra["parameters"], IDEMPOTENCY_KEY,
                parameter("Inference-Header-Content-Length", "header", {"type": "integer"},
                          "How many bytes of the body are JSON; raw data are behind."),
            ],
        }  # fmt: skip
        router.get(
            place, summary=f"Inputs and outputs{of}", responses=known, openapi_extra=extra
        )(of_it.metadata)  # fmt: skip
        router.get(
            f"{place}/ready", summary=f"Whether it can infer{of}", responses=known,
            openapi_extra=extra,
        )(of_it.ready)  # fmt: skip
        router.post(
            f"{place}/infer", summary=f"Inference{of}", responses=asked, openapi_extra=post
        )(of_it.infer)
    return router


class _Model:
    """The pipeline as a model: each method is a route."""

    def __init__(self, gateway: Gateway) -> None:
        pipeline, limits = gateway.pipeline, gateway.limits
        self._gateway, self._limits = gateway, limits
        self._model = InferenceModel(pipeline, limits.events)
        self._reader = EventReader(pipeline.event, pipeline.partitions, limits)

    async def health(self) -> Response:
        self._gateway.session.publisher()
        return _json({"ready": True})

    async def metadata(self, request: Request) -> Response:
        self._check(request)
        return _json(self._model.metadata)

    async def ready(self, request: Request) -> Response:
        self._check(request)
        self._gateway.session.publisher()
        return _json({"name": self._model.name, "ready": True})

    async def infer(self, request: Request) -> Response:
        self._check(request)
        check_encoding(request)
        limits = self._limits
        wanted = self._model.request(await body_of_request(request, limits), _json_length(request))
        deadline_s = min(wanted.timeout_s or limits.deadline_s, limits.longest_deadline_s)
        events = self._reader.events(wanted.items)
        outcomes = await self._gateway.decide(request, events, deadline_s)
        body_of(outcomes, is_list=len(outcomes) > 1)  # raises where some have no decision
        records = [outcome.decision for outcome in outcomes if outcome.decision is not None]
        answer, length = self._model.response(wanted, records)
        if length is None:
            return Response(answer, media_type=_JSON)
        return Response(answer, media_type=_BINARY, headers={_LENGTH: str(length)})

    def _check(self, request: Request) -> None:
        given = request.path_params
        self._model.check(given["model"], given.get("version", VERSION))


async def _server() -> Response:
    return _json(SERVER)


async def _live() -> Response:
    return _json({"live": True})


def _json_length(request: Request) -> int | None:
    """How many bytes of the body are JSON, where raw tensors follow."""
    given = request.headers.get(_LENGTH)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) < 12):
        raise InvalidParameter("Inference-Header-Content-Length", "a number of bytes")
    return int(given)


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type=_JSON)
