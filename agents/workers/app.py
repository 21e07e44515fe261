"""One Faust app per component: its consumer group, its agent, nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import gettempdir

import faust
from yarl import URL

from topics.errors import LeaseLost
from topics.kafka import FETCH_WAIT_MS, LEADER_WAIT_S, security_options
from topics.settings import BrokerSettings
from topics.transport import (
    BatchProducer,
    Fetch,
    FetchSchema,
    MicroBatchConsumer,
    MicroBatchTransport,
    on_crash,
)

log = logging.getLogger(__name__)

Handler = Callable[[Fetch], Awaitable[None]]


class StageApp(faust.App):
    """A Faust app whose transport hands its one agent whole fetches."""

    failure: BaseException | None = None
    """Why the app stopped; None while all is well."""

    def on_init(self) -> None:
        """Make what a failure is told with."""
        self.failed = asyncio.Event()
        on_crash(self, self.fail)

    def fail(self, cause: BaseException) -> None:
        """Stop reading and say why; nothing more is committed than is done."""
        if self.failure is None:
            self.failure = cause
            self.batches.stop_flow()
            self.failed.set()

    @property
    def batches(self) -> MicroBatchConsumer:
        """The consumer, by its own type."""
        return self.consumer  # type: ignore[return-value]  # Faust types it as its interface

    @property
    def writer(self) -> BatchProducer:
        """The producer, by its own type."""
        return self.producer  # type: ignore[return-value]  # Faust types it as its interface


def create_app(group: str, settings: BrokerSettings, *, max_records: int) -> StageApp:
    """A Faust app for the consumer group *group* that declares no topics and serves no web."""
    app = StageApp(
        group,
        broker=[URL(f"kafka://{address}") for address in settings.addresses],
        broker_client_id=group,
        broker_commit_interval=settings.commit_interval_s,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 10,
        broker_request_timeout=max(30.0, settings.session_timeout_s + 5),
        broker_max_poll_records=max_records,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.instance_id,
        consumer_max_fetch_size=4 * 2**20,
        producer_linger_ms=0,
        producer_max_batch_size=900_000,
        producer_max_request_size=32 * 2**20,
        producer_request_timeout=30.0,
        stream_buffer_maxsize=1,
        stream_recovery_delay=0.0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
        store="memory://",
        datadir=str(Path(gettempdir()) / "anabranch-faust"),
    )
    app.transport = MicroBatchTransport(app.conf.broker_consumer, app)
    app.producer_transport = MicroBatchTransport(app.conf.broker_producer, app)
    app.transport.security = app.producer_transport.security = security_options(settings)
    if settings.embedded:
        app.batches.fetch_max_wait_ms = FETCH_WAIT_MS
        app.batches.leader_wait_s = LEADER_WAIT_S
    return app


def add_agent(app: StageApp, topics: Sequence[str], handle: Handler) -> None:
    """Give *app* its agent: every fetch of *topics* goes to *handle*, one at a time.

    An exception would make Faust drop the fetch and go on with the next. So none leaves
    the agent: the app keeps it as its `failure`, stops reading, and commits nothing more.
    """
    source = app.topic(*topics, schema=FetchSchema(), acks=False)

    @app.agent(source, name=app.conf.id, concurrency=1)
    async def stage(fetches: faust.StreamT[Fetch]) -> None:
        async for fetch in fetches:
            if app.failure is not None:
                continue
            async with app.batches.handling(fetch) as current:
                if not current:
                    continue
                try:
                    await handle(fetch)
                except LeaseLost as exc:
                    if app.writer.severed or app.batches.is_current(fetch):
                        app.fail(exc)
                    else:  # a rebalance overtook it: whoever has the partitions now reads it again
                        log.warning("%s", exc)
                except Exception as exc:  # the boundary to Faust, see above
                    app.fail(exc)
