"""The Open Inference Protocol over gRPC, and the health service: what REST does, call by call.

A call is read as REST reads a request: who asks is looked at before anything but its head, its
message is to come in time, and what is refused is the same `Problem`, under gRPC's codes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2 as health

from agents.gateway.event_reader import EventReader
from agents.gateway.gateway import Gateway
from agents.gateway.inference import open_inference_pb2 as messages
from agents.gateway.inference.grpc_messages import header_of, response_of
from agents.gateway.inference.open_inference import (
    GRPC_SERVICE,
    SERVER,
    VERSION,
    InferenceModel,
    InferenceRequest,
    tensor_problem,
)
from agents.gateway.inference.tensors import InvalidTensor
from agents.gateway.predictions import body_of
from agents.gateway.problem import InvalidEvents, NotFound, Problem, TooSlow

log = logging.getLogger(__name__)

_SAID_BEFORE, _SAID_BEFORE_S = 0.1, 0.2
"""What is waited for is said this share of the caller's time before its end, and no more than so
long, or nobody reads it."""
_AT_ONCE = 64
"""So many messages are read at once, as each may be as large as one may be; others wait."""
_LONGEST_DETAIL = 1000
"""Characters: it travels among headers, which clients bound."""
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.INVALID_ARGUMENT,  # coming again does not help
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

Context = Any  # grpc.aio.ServicerContext, which has no types
_Method = Callable[[Any, Context], Awaitable[Message]]
_Rpc = tuple[type[Message], _Method]


def grpc_handlers(gateway: Gateway) -> list[grpc.GenericRpcHandler]:
    """The services of a pipeline's gateway."""
    model, state = _Inference(gateway), _Health(gateway)
    reading = asyncio.Semaphore(_AT_ONCE)
    inference: Mapping[str, _Rpc] = {
        "ServerLive": (messages.ServerLiveRequest, model.server_live),
        "ServerReady": (messages.ServerReadyRequest, model.server_ready),
        "ModelReady": (messages.ModelReadyRequest, model.model_ready),
        "ServerMetadata": (messages.ServerMetadataRequest, model.server_metadata),
        "ModelMetadata": (messages.ModelMetadataRequest, model.model_metadata),
        "ModelInfer": (messages.ModelInferRequest, model.model_infer),
    }
    return [
        grpc.method_handlers_generic_handler(service, {
            name: grpc.stream_unary_rpc_method_handler(
                _Envelope(gateway, reading, f"/{service}/{name}", *rpc).answer, None,
                lambda answer: answer.SerializeToString(),
            )
            for name, rpc in rpcs.items()
        })
        for service, rpcs in (
            (GRPC_SERVICE, inference),
            ("grpc.health.v1.Health", {"Check": (health.HealthCheckRequest, state.check)}),
        )
    ]  # fmt: skip


class _Inference:
    """The pipeline as a model: each method is one of the protocol's."""

    def __init__(self, gateway: Gateway) -> None:
        pipeline, limits = gateway.pipeline, gateway.limits
        self._gateway, self._limits = gateway, limits
        self._model = InferenceModel(pipeline, limits.events)
        self._reader = EventReader(pipeline.event, pipeline.partitions, limits)
        about = self._model.metadata
        self._counts = (len(about["inputs"]), len(about["outputs"]))

    async def server_live(self, _: Message, __: Context) -> Message:
        return messages.ServerLiveResponse(live=True)

    async def server_ready(self, _: Message, __: Context) -> Message:
        return messages.ServerReadyResponse(ready=self._gateway.session.is_ready)

    async def model_ready(self, asked: messages.ModelReadyRequest, _: Context) -> Message:
        """As Triton has it: what is not there is not ready."""
        try:
            self._model.check(asked.name, asked.version or VERSION)
        except NotFound:
            return messages.ModelReadyResponse(ready=False)
        return messages.ModelReadyResponse(ready=self._gateway.session.is_ready)

    async def server_metadata(self, _: Message, __: Context) -> Message:
        return messages.ServerMetadataResponse(**SERVER)

    async def model_metadata(self, asked: messages.ModelMetadataRequest, _: Context) -> Message:
        self._model.check(asked.name, asked.version or VERSION)
        return messages.ModelMetadataResponse(**self._model.metadata)

    async def model_infer(self, asked: messages.ModelInferRequest, context: Context) -> Message:
        wanted = self._request(asked)
        del asked  # it may be far larger than the events that wait
        events = self._reader.events(wanted.items)
        key = dict(context.invocation_metadata()).get("idempotency-key")
        outcomes = await self._gateway.outcomes(
            key, events, self._deadline_s(wanted.timeout_s, context)
        )
        body_of(outcomes, is_list=len(outcomes) > 1)  # raises where some have no decision
        records = [outcome.decision for outcome in outcomes if outcome.decision is not None]
        outputs = self._model.outputs(wanted, records)
        return response_of(self._model.name, wanted.request_id or "", outputs)

    def _request(self, asked: messages.ModelInferRequest) -> InferenceRequest:
        self._model.check(asked.model_name, asked.model_version or VERSION)
        try:
            header, raw = header_of(asked, *self._counts)
        except InvalidTensor as exc:
            raise tensor_problem(exc) from exc
        return self._model.inference(header, raw, asked.ByteSize())

    def _deadline_s(self, timeout_s: float | None, context: Context) -> float:
        """The caller's own, by parameter or by the call's deadline; else what holds without."""
        left_s = context.time_remaining()
        if left_s is not None:
            left_s -= min(left_s * _SAID_BEFORE, _SAID_BEFORE_S)
        named = [each for each in (timeout_s, left_s) if each is not None]
        longest_s = self._limits.longest_deadline_s
        return min(*named, longest_s) if named else self._limits.deadline_s


class _Health:
    """`grpc.health.v1`: the gateway lives (no name), and the inference service is ready."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def check(self, asked: health.HealthCheckRequest, _: Context) -> Message:
        if asked.service not in ("", GRPC_SERVICE):
            raise NotFound(f"no service {asked.service[:80]!r}; there is {GRPC_SERVICE}")
        serves = not asked.service or self._gateway.session.is_ready
        states = health.HealthCheckResponse
        return health.HealthCheckResponse(status=states.SERVING if serves else states.NOT_SERVING)


class _Envelope:
    """Around every call: guards it, reads its message in time, counts it, lets no stack trace out.

    To gRPC its request is a stream: a unary one would be read, and decoded, before it is ours.
    """

    def __init__(
        self, gateway: Gateway, reading: asyncio.Semaphore, path: str, kind: type[Message],
        method: _Method,
    ) -> None:  # fmt: skip
        self._gateway, self._reading, self._path = gateway, reading, path
        self._kind, self._method = kind, method

    async def answer(self, requests: AsyncIterator[bytes], context: Context) -> Message:
        """Answer one call."""
        began, status = time.monotonic(), 499
        try:
            await self._gateway.guard.check(_scope(self._path, context))
            answer = await self._method(await self._message(requests), context)
            status = 200
        except Problem as problem:
            status, _ = problem.inference_error
            await _abort(context, status, problem.detail, problem.headers)
        except Exception:  # the boundary to the caller, who sees a number and no traceback
            status, number = 500, uuid4().hex
            log.exception("call %s failed", number)
            await _abort(
                context, status, f"an error of the gateway's own; its log has it as {number}"
            )
        finally:
            left_s = context.time_remaining()
            if status == 499 and left_s is not None and left_s <= 0:
                status = 504
            self._gateway.metrics.observe_request(self._path, status, time.monotonic() - began)
        return answer

    async def _message(self, requests: AsyncIterator[bytes]) -> Message:
        within_s = self._gateway.limits.body_within_s
        try:
            async with asyncio.timeout(within_s), self._reading:
                return self._kind.FromString(await anext(aiter(requests)))
        except TimeoutError as exc:
            raise TooSlow(408, f"the message did not come within {within_s:g} s") from exc
        except StopAsyncIteration as exc:
            raise InvalidEvents([(0, "", "there is no message")], of_list=False) from exc
        except DecodeError as exc:
            wrong = (0, "", f"no {self._kind.DESCRIPTOR.full_name}: {exc}")
            raise InvalidEvents([wrong], of_list=False) from exc


async def _abort(
    context: Context, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> None:
    code = _CODES.get(status, grpc.StatusCode.INTERNAL)
    trailers = tuple((name.lower(), value) for name, value in (headers or {}).items())
    await context.abort(code, detail[:_LONGEST_DETAIL], trailers)


def _scope(path: str, context: Context) -> dict[str, Any]:
    """The head of the call as that of the HTTP/2 request which it is."""
    headers = [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in context.invocation_metadata()
    ]
    _, _, place = context.peer().partition(":")  # ipv4:127.0.0.1:5000, ipv6:%5B::1%5D:5000
    host = unquote(place).rpartition(":")[0].strip("[]") or "unknown"
    return {"method": "POST", "path": path, "headers": headers, "client": (host, 0)}
