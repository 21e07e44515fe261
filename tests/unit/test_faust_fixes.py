"""What is reached into in Faust, and which of its hooks are overridden: noticed when it changes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport import consumer as faust_consumer
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from agents.workers.app import create_app
from topics.settings import BrokerSettings
from topics.transport import faust_fixes
from topics.transport.consumer import MicroBatchConsumer
from topics.transport.faust_transport import BatchProducer

EVENTS = TP("p.events", 0)


@pytest.fixture
async def consumer() -> MicroBatchConsumer:
    return create_app("g", BrokerSettings(), max_records=10).batches


@pytest.mark.parametrize(
    ("function", "uses"),
    [
        (faust_consumer.Fetcher._fetcher.fun, ["consumer._drain_messages(self)"]),
        (Consumer.force_commit, ["self._filter_tps_with_pending_acks(topics)"]),
        (Consumer._filter_committable_offsets, ["self._new_offset(tp)"]),
        (Consumer._commit_offsets, ["self._commit(committable_offsets)",
                                    "self._committed_offset.update("]),
        (Consumer._should_commit, ["self._committed_offset[tp]"]),
        (Consumer.on_partitions_revoked, ["self._committed_offset.pop("]),
        (Consumer.pause_partitions, ["self._get_active_partitions()"]),
        (driver.Producer._new_producer, ["self._settings_auth()", "self._settings_extra()"]),
        (driver.Producer._ensure_producer, ["self._producer"]),
        (driver.ConsumerRebalanceListener.on_partitions_revoked, ["app.on_rebalance_start()"]),
        (driver.ConsumerRebalanceListener.on_partitions_assigned,
         ["app.consumer_generation_id = generation"]),
        (Service.crash, ["._crash(reason)"]),
    ],
    ids=lambda value: value.__qualname__ if callable(value) else "",
)  # fmt: skip
def test_faust_still_calls_and_keeps_what_is_overridden_or_read(
    function: Callable[..., Any], uses: list[str]
) -> None:
    missing = [text for text in uses if text not in inspect.getsource(function)]
    assert not missing, f"{function.__qualname__} has changed: look through topics/transport"


@pytest.mark.parametrize(
    ("ours", "fausts"), [(MicroBatchConsumer, Consumer), (BatchProducer, driver.Producer)]
)
def test_every_private_hook_that_is_overridden_is_fausts(ours: type, fausts: type) -> None:
    hooks = {name for name in vars(ours) if name.startswith("_") and not name.startswith("__")}
    own = {
        "_watch_group_errors", "_next_fetch", "_message", "_done_before",  # the consumer
        "_watch_lease", "_writer",  # the producer
        "_abc_impl",
    }  # fmt: skip
    assert {name for name in hooks - own if not hasattr(fausts, name)} == set()


def test_the_committed_offset_is_fausts(consumer: MicroBatchConsumer) -> None:
    assert faust_fixes.committed_offset(consumer, EVENTS) == 0
    consumer._committed_offset[EVENTS] = 7
    assert faust_fixes.committed_offset(consumer, EVENTS) == 7


async def test_paused_partitions_are_not_active(consumer: MicroBatchConsumer) -> None:
    others = TP("p.events", 1)
    consumer._set_active_tps({EVENTS, others})
    consumer.pause_partitions({others})
    assert faust_fixes.active_partitions(consumer) == {EVENTS}


async def test_the_client_of_a_producer_is_aiokafkas() -> None:
    app = create_app("g", BrokerSettings(), max_records=10)
    client: Any = object()
    app.writer._producer = client
    assert faust_fixes.client_of(app.writer) is client


async def test_an_app_hears_of_a_service_that_gives_up_below_it() -> None:
    app = create_app("g", BrokerSettings(), max_records=10)
    cause = RuntimeError("the fetch broke")
    await app.batches.crash(cause)
    assert app.failure is cause
    assert app.crashed
    assert app.failed.is_set()


async def test_a_crash_is_told_before_it_goes_on() -> None:
    service, told = Service(), list[tuple[BaseException, bool]]()
    faust_fixes.on_crash(service, lambda reason: told.append((reason, service.crashed)))
    cause = RuntimeError("no more")
    await service.crash(cause)
    assert told[0] == (cause, False)
    assert service.crashed


async def test_an_app_knows_of_a_rebalance_before_anything_is_awaited() -> None:
    steps: list[object] = []

    class Told:
        app = SimpleNamespace(
            on_rebalance_start=lambda: steps.append("start"), consumer_generation_id=1
        )

        async def on_partitions_revoked(self, revoked: set[TP]) -> None:
            steps.append(revoked)

        async def on_partitions_assigned(self, assigned: set[TP], generation: int) -> None:
            steps.append((assigned, generation, self.app.consumer_generation_id))

    consumer, kafka = Told(), SimpleNamespace(_coordinator=SimpleNamespace(generation=2))
    listener = faust_fixes.RebalanceListener(consumer, kafka)  # type: ignore[arg-type]  # fakes
    giving_back = listener.on_partitions_revoked({EVENTS})
    assert inspect.iscoroutine(giving_back), "aiokafka awaits nothing else"
    assert steps == ["start"]
    await giving_back
    await listener.on_partitions_assigned({EVENTS})
    assert steps[1:] == [{EVENTS}, ({EVENTS}, 2, 2)]
