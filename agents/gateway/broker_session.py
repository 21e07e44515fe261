"""What the gateway has of the broker: opened, watched, and opened again when it fails."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, suppress

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from agents.broker import check_topics, ensure_requests_topic, follower, wait_for_broker
from agents.control import ControlTopic
from agents.gateway.awaited_answers import AwaitedAnswers
from agents.gateway.decision_follower import DecisionFollower
from agents.gateway.event_publisher import EventPublisher
from agents.gateway.keyed.request_log import RequestLog
from agents.gateway.pipeline_watch import PipelineWatch
from agents.gateway.problem import Unavailable
from agents.gateway.stream.live_decisions import LiveDecisions
from agents.gateway.stream.stream_filter import StreamFilter
from agents.gateway.stream.stream_position import Position
from agents.process.tasks import first_of
from agents.publish import publisher as publishing
from agents.status import StatusReader
from topics.errors import AnabranchError, BrokerError, BrokerUnreachable, TopicMissing
from topics.pipeline import Pipeline, Topology
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

_AGAIN_S = 1.0
_PROBE_S, _SILENT_S = 1.0, 3.0
"""The broker is asked so often, and counts as down when it has not answered for so long."""


class SessionEnded(AnabranchError):
    """The connection to the broker has ended: what is decided meanwhile passes us by."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"the connection to the broker has ended: {cause}")


class BrokerSession:
    """One producer, one consumer of what is decided, and the workers' reports."""

    def __init__(self, settings: BrokerSettings, pipeline: Pipeline) -> None:
        self.answers = AwaitedAnswers()
        self.live = LiveDecisions(pipeline.event.id)
        self.watch = PipelineWatch(pipeline)
        self._settings, self._pipeline = settings, pipeline
        self._topology = Topology.of(pipeline)
        self._publisher: EventPublisher | None = None
        self._down_because = "the gateway is starting"
        self._request_log: RequestLog | None = None
        self._no_request_log = ""
        """Why there is none, though the session is open."""
        self.opened = asyncio.Event()
        """It was open once."""

    @property
    def is_ready(self) -> bool:
        """Events would be published and decided now."""
        return self._publisher is not None and not self._down_because and not self.watch.down()

    def publisher(self) -> EventPublisher:
        """What publishes. Raises Unavailable when broker or pipeline are down."""
        if self._publisher is None or self._down_because:
            raise Unavailable(self._down_because or "the gateway is starting")
        if down := self.watch.down():
            names = ", ".join(down)
            raise Unavailable(
                f"the pipeline is down: nobody runs {names}, and nothing is decided without; "
                f"`anabranch status {self._topology.pipeline}` says more",
                down=down,
            )
        return self._publisher

    def request_log(self) -> RequestLog:
        """The log of requests with a key. Raises Unavailable where there is none."""
        if self._request_log is None:
            raise Unavailable(self._down_because or self._no_request_log)
        return self._request_log

    def live_position(self, wanted: StreamFilter) -> Position:
        """Where a stream begins that wants nothing of the past. Raises Unavailable."""
        position = self.live.position(wanted)
        if position is None:
            raise Unavailable(self._down_because or "the gateway is starting")
        return position

    async def run(self) -> None:
        """Keep it open until it is cancelled."""
        while True:
            try:
                await self._open()
            except (AnabranchError, KafkaError, OSError) as exc:
                self._down_because = str(exc) or type(exc).__name__
                log.warning("%s; trying again", self._down_because)
            await asyncio.sleep(_AGAIN_S)

    async def _open(self) -> None:
        topology, settings = self._topology, self._settings
        ends = (topology.decisions, topology.dead_letters)
        await wait_for_broker(settings, _SILENT_S)
        await check_topics(settings, topology)
        async with (
            follower(
                settings, ends, topology.partitions, from_start=False, prompt=True
            ) as consumer,
            publishing.producer(settings) as kafka,
            ControlTopic(settings, topology) as control,
            AsyncExitStack() as stack,
        ):  # fmt: skip
            requests = await self._opened_requests(kafka, stack)
            publisher = EventPublisher(kafka, topology, self.answers)
            decisions = DecisionFollower(consumer, topology, self.answers, self.live)
            with suppress(TopicMissing):  # an older installation: its workers say nothing
                reader = StatusReader(self._pipeline, settings, control)
                self.watch.status = await reader.first()
            self._publisher, self._down_because = publisher, ""
            self._request_log = requests
            self.live.open(await decisions.position())
            self.opened.set()
            error: Exception = SessionEnded("the gateway ends")
            try:
                await first_of(
                    decisions.follow, publisher.run,
                    _for_ever if requests is None else requests.follow, lambda: self._probe(kafka),
                    lambda: self._watch(reader),
                )  # fmt: skip
            except (KafkaError, AnabranchError) as exc:
                error = SessionEnded(str(exc) or type(exc).__name__)
                raise
            finally:
                self._publisher, self._down_because = None, str(error)
                self._request_log = None
                self.live.close()
                publisher.fail(error)
                self.answers.fail(error)

    async def _opened_requests(
        self, kafka: AIOKafkaProducer, stack: AsyncExitStack
    ) -> RequestLog | None:
        """The log of requests with a key, made where it is not there; None where we may not."""
        settings, topology = self._settings, self._topology
        try:
            await ensure_requests_topic(settings, topology)
        except BrokerError as exc:
            self._no_request_log = f"requests with a key need {topology.requests}: {exc}"
            log.warning("%s", self._no_request_log)
            return None
        consumer = await stack.enter_async_context(
            follower(
                settings, (topology.requests,), topology.partitions, from_start=True,
                prompt=True,
            )
        )  # fmt: skip
        requests = RequestLog(consumer, kafka, topology)
        await requests.catch_up()
        return requests

    async def _watch(self, reader: StatusReader) -> None:
        while True:
            if self.watch.status is None:
                await asyncio.sleep(_AGAIN_S)
                continue
            try:
                self.watch.status = await reader.next()
            except (KafkaError, OSError, AnabranchError) as exc:
                log.warning("what the workers say cannot be read: %s", exc)
                await asyncio.sleep(_AGAIN_S)

    async def _probe(self, kafka: AIOKafkaProducer) -> None:
        """Notice that no broker answers, long before a write has timed out."""
        while True:
            await asyncio.sleep(_PROBE_S)
            try:
                async with asyncio.timeout(_SILENT_S):
                    answered = await kafka.client.force_metadata_update()
            except (TimeoutError, KafkaError, OSError):
                answered = False
            down = str(BrokerUnreachable(self._settings.broker, _SILENT_S))
            self._down_because = "" if answered else down


async def _for_ever() -> None:
    await asyncio.Event().wait()
