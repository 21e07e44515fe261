"""The gateway's gRPC service on Apache Kafka."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from typing import Any

import grpc
import pytest

from agents.gateway.inference import open_inference_pb2 as messages
from tests.integration.gateways import events_of, gateway_process
from tests.integration.harness import Trained, decisions_of, settled, worker_process
from tests.integration.test_gateway_grpc import call, channel_to, scores
from topics.settings import BrokerSettings

CALLS = 200


def asked(model: str, event: dict[str, Any]) -> messages.ModelInferRequest:
    request = messages.ModelInferRequest(model_name=model, id=event["transaction_id"])
    for name, value in event.items():
        contents = messages.InferTensorContents()
        if isinstance(value, str):
            contents.bytes_contents.append(value.encode())
        else:
            contents.fp64_contents.append(value)
        datatype = "BYTES" if isinstance(value, str) else "FP64"
        request.inputs.add(name=name, datatype=datatype, shape=[1], contents=contents)
    return request


async def test_a_key_that_is_sent_to_two_gateways_leaves_one_decision(
    own: Trained, broker: BrokerSettings
) -> None:
    events = events_of(own, CALLS, seed=5)
    words = ("--grpc-port", "0", "--deadline-ms", "60000")
    with ExitStack() as stack:
        stack.enter_context(worker_process(own, broker))
        channels: list[grpc.Channel] = []
        for _ in range(2):
            gateway = stack.enter_context(gateway_process(own, broker, *words))
            channels.append(stack.enter_context(channel_to(gateway)))

        def ask(event: dict[str, Any], channel: grpc.Channel) -> messages.ModelInferResponse:
            key = f"grpc-{event['transaction_id']}"
            request = asked(own.pipeline.name, event)
            answer: messages.ModelInferResponse = call(
                channel, "ModelInfer", request, idempotency_key=key
            )
            return answer

        pool = stack.enter_context(ThreadPoolExecutor(20))
        twice = [event for event in events for _ in range(2)]
        answers = await asyncio.to_thread(lambda: [*pool.map(ask, twice, cycle(channels))])
        audit = await asyncio.wait_for(settled(broker, own.pipeline, CALLS), 300)
    assert (audit.total.inputs, audit.total.decided) == (CALLS, CALLS)
    decided = {each["event_id"]: each["score"] for each in await decisions_of(broker, own.pipeline)}
    assert len(decided) == CALLS
    for answer in answers:
        assert scores(answer) == [pytest.approx(decided[answer.id])]
