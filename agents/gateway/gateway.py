"""What every route asks: a pipeline's gateway, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request

from agents.gateway.access.guard import Guard
from agents.gateway.broker_session import BrokerSession
from agents.gateway.event_reader import Event
from agents.gateway.keyed.keyed_requests import KeyedRequests
from agents.gateway.limits import Limits
from agents.gateway.lookup import Lookup
from agents.gateway.metrics import GatewayMetrics
from agents.gateway.predictions import Outcome, Predictions
from agents.gateway.problem import GONE, Problem
from agents.gateway.stream.stream_routes import DecisionStreams
from topics.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Gateway:
    """All that answers requests."""

    pipeline: Pipeline
    session: BrokerSession
    predictions: Predictions
    keyed: KeyedRequests
    lookup: Lookup
    limits: Limits
    metrics: GatewayMetrics
    guard: Guard
    streams: DecisionStreams

    async def decide(
        self, request: Request, events: Sequence[Event], deadline_s: float
    ) -> list[Outcome]:
        """What *events* come to, see `Predictions.decide`; waits for nobody who has gone away.

        With an Idempotency-Key they are published once, see `KeyedRequests`.
        """
        key = request.headers.get("idempotency-key")
        task = asyncio.ensure_future(self.outcomes(key, events, deadline_s))
        gone = asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Problem(GONE, "the caller has gone away")
            return await task
        finally:
            gone.cancel()
            task.cancel()

    async def outcomes(
        self, key: str | None, events: Sequence[Event], deadline_s: float
    ) -> list[Outcome]:
        """What *events* come to; with a *key* they are published once, see `KeyedRequests`."""
        if key is None:
            outcomes = await self.predictions.decide(events, deadline_s)
        else:
            outcomes = await self.keyed.decide(key, events, deadline_s)
        self.metrics.observe_outcomes(outcomes)
        return outcomes
