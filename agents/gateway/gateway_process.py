"""A gateway from start to stop: its connection to the broker, its lookups, its server."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from agents.gateway.access.guard import Guard
from agents.gateway.app import gateway_app
from agents.gateway.broker_session import BrokerSession
from agents.gateway.gateway import Gateway
from agents.gateway.keyed.keyed_requests import KeyedRequests
from agents.gateway.limits import Limits
from agents.gateway.lookup import Lookup
from agents.gateway.loop_thread import LoopThread
from agents.gateway.metrics import GatewayMetrics
from agents.gateway.predictions import Predictions
from agents.gateway.server import serve
from agents.gateway.stream.past_decisions import PastDecisions
from agents.gateway.stream.stream_routes import DecisionStreams
from agents.process.liveness import Liveness
from agents.process.tasks import first_of
from models.registry import Registry
from topics.kafka import MAX_IN_FLIGHT
from topics.pipeline import PipelineFile, Topology
from topics.settings import BrokerSettings

if TYPE_CHECKING:
    from agents.gateway.inference.grpc_port import GrpcPort  # loads gRPC

_LOOK_S = 1.0

Monitor = Callable[[CollectorRegistry, Liveness], AbstractContextManager[None]]
"""Serves metrics and health meanwhile, on a port of their own."""


async def run_gateway(
    file: PipelineFile, registry: Registry, settings: BrokerSettings, listener: socket.socket,
    stopping: asyncio.Event, *, limits: Limits, guard: Guard, up: Callable[[], None],
    tls: ssl.SSLContext | None = None, grpc: GrpcPort | None = None,
    begin: asyncio.Event | None = None, monitor: Monitor | None = None,
) -> None:  # fmt: skip
    """Serve *file*'s pipeline on *listener*, and on *grpc*, until *stopping*.

    *up* is called once events are taken, not before *begin* is set. Requests are answered from the
    start on: with 503 while the broker is not there.
    """
    topology = Topology.of(file.pipeline)
    session = BrokerSession(settings, file.pipeline)
    predictions = Predictions(session, topology, limits)
    metrics = GatewayMetrics(
        file.pipeline.name, lambda: predictions.in_flight, lambda: session.is_ready
    )
    liveness = Liveness(settings.stuck_after_s)
    async with (
        Lookup.of(file, registry, settings, limits) as lookup,
        LoopThread.of("past decisions") as thread,
    ):
        keyed = KeyedRequests(session, predictions, lookup, metrics.observe_keyed)
        past = PastDecisions(settings, topology, file.pipeline.event.id, thread)
        streams = DecisionStreams(file.pipeline, session, past, limits, metrics, guard, stopping)
        gateway = Gateway(
            file.pipeline, session, predictions, keyed, lookup, limits, metrics, guard, streams
        )

        async def answer() -> None:
            waits = [serve(gateway_app(gateway), listener, stopping, tls)]
            if grpc is not None:
                waits.append(grpc.serve(gateway, stopping))
            await asyncio.gather(*waits)

        async def connect() -> None:
            if begin is not None:
                await begin.wait()
            await session.run()

        async def tell() -> None:
            await session.opened.wait()
            gc.collect()
            gc.freeze()  # or each full collection walks through every module, now and then
            up()
            await asyncio.Event().wait()

        async def look() -> None:
            while True:
                liveness.look({})
                liveness.ready = session.is_ready
                await asyncio.sleep(_LOOK_S)

        with nullcontext() if monitor is None else monitor(metrics.registry, liveness):
            await first_of(answer, connect, tell, look)


def limits_for(settings: BrokerSettings, limits: Limits) -> Limits:
    """*limits* within what the embedded broker keeps, where it is that."""
    if not settings.embedded:
        return limits
    return replace(limits, in_flight=min(limits.in_flight, MAX_IN_FLIGHT // 2))
