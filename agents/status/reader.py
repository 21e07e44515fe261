"""Reading how a pipeline fares off its broker."""

from __future__ import annotations

import time
from collections.abc import Mapping

from aiokafka.errors import KafkaError

from agents.broker import group_lag, partition_counts
from agents.control import ControlTopic, now_ms
from agents.status.pipeline_status import PipelineStatus, pipeline_status, unowned
from topics.errors import TopicMissing
from topics.pipeline import Pipeline, Topology
from topics.pipeline.readers import readers
from topics.settings import BrokerSettings

_LOOK_S = 1.0
_BROKER_EVERY_S = 5.0
"""How often topics and committed offsets are asked for; what workers say comes by itself."""


class StatusReader:
    """The status of one pipeline, now and again."""

    def __init__(self, pipeline: Pipeline, settings: BrokerSettings, control: ControlTopic) -> None:
        self._pipeline = pipeline
        self._topology = Topology.of(pipeline)
        self._readers = readers(pipeline)
        self._settings = settings
        self._control = control
        self._lag: Mapping[tuple[str, int], int] = {}
        self._missing: list[str] = []
        self._unowned: dict[str, list[int]] = {}
        """The partitions whose lag was asked for."""
        self._asked_at = -float("inf")

    async def first(self) -> PipelineStatus:
        """The status by all that has been said so far. Raises TopicMissing."""
        if not await self._control.has_reports():
            raise TopicMissing(self._control.reports_topic)
        self._control.listen()
        await self._control.catch_up()
        return await self._status()

    async def next(self) -> PipelineStatus:
        """The status a second later."""
        until = time.monotonic() + _LOOK_S
        while time.monotonic() < until:
            await self._control.more()
        return await self._status()

    async def _status(self) -> PipelineStatus:
        status = self._now()
        due = time.monotonic() - self._asked_at > _BROKER_EVERY_S
        while due or unowned(status) != self._unowned:  # also when one went down while we asked
            await self._ask(status)
            status, due = self._now(), False
        return status

    def _now(self) -> PipelineStatus:
        return pipeline_status(
            self._pipeline.name, self._readers, self._pipeline.partitions,
            self._pipeline.weighting.stall_timeout_s, self._control.reports, now_ms(),
            unowned_lag=self._lag, missing_topics=self._missing,
        )  # fmt: skip

    async def _ask(self, status: PipelineStatus) -> None:
        """Ask the broker for topics, and for the lag of those partitions that nobody owns.

        The redrive topic, which all read, counts for nobody: it is no sign of being behind.
        """
        there = await partition_counts(self._settings, self._topology)
        self._missing = [topic for topic in self._topology.all if topic not in there]
        self._unowned = numbers = unowned(status)
        groups = {
            self._topology.group(name): self._readers[name].topics
            for name in numbers
            if all(
                there.get(topic, 0) >= self._pipeline.partitions
                for topic in self._readers[name].topics
            )
        }
        wanted = sorted({p for of in numbers.values() for p in of})
        try:
            lag = await group_lag(self._settings, groups, wanted)
        except KafkaError:  # no right to describe a topic: not known
            lag = {}
        self._lag = {
            (name, p): lag[self._topology.group(name), p]
            for name, of in numbers.items()
            for p in of
            if (self._topology.group(name), p) in lag
        }
        self._asked_at = time.monotonic()
