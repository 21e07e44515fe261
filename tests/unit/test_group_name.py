"""A worker whose name another one has taken writes nothing more, and does not take it back."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.protocol.commit import OffsetCommitResponse_v3

from agents.workers.app import create_app
from topics.errors import NameTaken
from topics.kafka.aiokafka_fixes import FencedInstanceId
from topics.settings import BrokerSettings
from topics.transport.consumer import MicroBatchConsumer

HEARTBEAT = SimpleNamespace(error_code=0)
FORGOTTEN = SimpleNamespace(error_code=25)
COMMIT_FORGOTTEN = OffsetCommitResponse_v3(0, [("t", [(0, 0), (1, 25)])])


class Coordinator:
    """Gives one answer to whatever is asked."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    async def _send_req(self, _: object) -> object:
        return self.answer


def member(answer: object, name: str | None = "w-1") -> tuple[MicroBatchConsumer, Any]:
    """A consumer in its session, and its coordinator."""
    made = create_app("g", BrokerSettings(instance_id=name), max_records=10).batches
    coordinator = Coordinator(answer)
    made.membership._kafka = SimpleNamespace(_coordinator=coordinator)
    made.lease.renew(time.monotonic() - 1)
    made.lease.begin(made.app.consumer_generation_id)
    made.membership._notice_that_the_name_is_taken()
    return made, coordinator


@pytest.mark.parametrize("answer", [FORGOTTEN, COMMIT_FORGOTTEN], ids=["heartbeat", "commit"])
async def test_who_is_forgotten_in_its_session_has_lost_its_name(answer: object) -> None:
    consumer, coordinator = member(answer)
    consumer.check_lease()
    with pytest.raises(FencedInstanceId):
        await coordinator._send_req(None)
    with pytest.raises(NameTaken, match="w-1"):
        consumer.check_lease()


async def test_who_is_known_keeps_its_name() -> None:
    consumer, coordinator = member(HEARTBEAT)
    assert await coordinator._send_req(None) is HEARTBEAT
    consumer.check_lease()


async def test_a_worker_without_a_name_may_join_again() -> None:
    consumer, coordinator = member(FORGOTTEN, name=None)
    assert await coordinator._send_req(None) is FORGOTTEN
    consumer.check_lease()


async def test_who_was_away_for_longer_than_its_session_may_join_again() -> None:
    consumer, coordinator = member(FORGOTTEN)
    consumer.lease.renew(time.monotonic() - 60)
    assert await coordinator._send_req(None) is FORGOTTEN
    assert not consumer.lease.name_is_taken
