"""Whose outcomes are published, and when."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from agents.publish import outcome_publisher as outcomes
from agents.publish.outcome_publisher import OutcomePublisher
from topics.pipeline.file import load_pipeline
from topics.pipeline.schema import Pipeline

CARD_FRAUD = load_pipeline(Path("deploy/pipelines/card-fraud.yaml")).pipeline
STATELESS = load_pipeline(Path("tests/unit/stateless.yaml")).pipeline
EVENTS = [
    ({"transaction_id": f"tx-{at}", "occurred_at": f"2018-04-0{at}T00:00:31Z",
      "customer_id": "c", "terminal_id": "t", "amount": 1.0}, at == 2)
    for at in (1, 2, 3)
]  # fmt: skip


async def published(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, *, wanted: bool
) -> list[list[tuple[str, bool]]]:
    """Outcomes that are published at once with the events, and those in the end."""
    sent: list[tuple[str, bool]] = []

    async def taken(_kafka: object, topic: str, _n: int, part: list[tuple[bytes, bytes]]) -> None:
        assert topic == "card-fraud.outcomes"
        for _, value in part:
            outcome = orjson.loads(value)
            sent.append((outcome["transaction_id"], outcome["outcome"]))

    monkeypatch.setattr(outcomes, "publish_chunk", taken)
    publisher, kafka = (
        OutcomePublisher(pipeline, wanted=wanted),
        AIOKafkaProducer.__new__(AIOKafkaProducer),
    )
    assert len(list(publisher.following(EVENTS))) == 3
    await publisher.publish_known(kafka)
    at_once = list(sent)
    await publisher.publish_rest(kafka)
    return [at_once, sent[len(at_once) :]]


ALL = [("tx-1", False), ("tx-2", True), ("tx-3", False)]


@pytest.mark.parametrize(
    ("pipeline", "wanted", "expected"),
    [
        (STATELESS, False, [[], []]),
        (STATELESS, True, [ALL, []]),
        (CARD_FRAUD, False, [[], ALL]),
        (CARD_FRAUD, True, [[], ALL]),
    ],
)
async def test_outcomes_wait_where_features_use_them_and_go_at_once_where_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, wanted: bool,
    expected: list[list[tuple[str, bool]]],
) -> None:  # fmt: skip
    assert await published(monkeypatch, pipeline, wanted=wanted) == expected
