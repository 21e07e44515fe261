"""Finding and explaining what was decided before, in a thread of its own.

Looking for an id reads topics through, and explaining computes: neither may hold up those who wait
for decisions. Each lookup has a reader of topics to itself meanwhile; readers are used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from agents.explanations import (
    BadCoordinates,
    DecisionArchive,
    DecisionExplainer,
    DecisionNotFound,
    EventFields,
    EventRecords,
    RecordedEvent,
    RegistryVersions,
    SeveralDecisions,
    named,
)
from agents.gateway.awaited_answers import Answer
from agents.gateway.decision_follower import buried
from agents.gateway.limits import Limits
from agents.gateway.loop_thread import LoopThread
from agents.gateway.problem import (
    NotFound,
    Overloaded,
    Problem,
    SeveralEvents,
    TooSlow,
    Unavailable,
)
from agents.workers import TailReader
from models.registry import Registry
from topics.errors import AnabranchError
from topics.pipeline import PipelineFile, Topology
from topics.records import REQUEST_HEADER, Decision, Source
from topics.settings import BrokerSettings

T = TypeVar("T")
_LISTED = 20
_TURN_S = 0.02


class Lookup:
    """Looks back on what a pipeline's topics hold."""

    def __init__(
        self, file: PipelineFile, registry: Registry, settings: BrokerSettings, limits: Limits,
        thread: LoopThread,
    ) -> None:  # fmt: skip
        self._file, self._registry, self._settings = file, registry, settings
        self._topology, self._limits = Topology.of(file.pipeline), limits
        self._thread = thread
        self._running = 0
        self._idle: list[TailReader] = []

    @classmethod
    @asynccontextmanager
    async def of(
        cls, file: PipelineFile, registry: Registry, settings: BrokerSettings, limits: Limits
    ) -> AsyncIterator[Lookup]:
        """A lookup whose thread runs meanwhile."""
        async with LoopThread.of("lookup") as thread:
            yield cls(file, registry, settings, limits, thread)

    async def decision(self, word: str, *, since_ms: int | None, is_source: bool) -> bytes:
        """The decision record of an event: by its id, or its coordinates. Raises Problem."""
        place = Source.of(word.encode()) if is_source else None
        if place is not None and place.topic != self._topology.events:
            raise NotFound(f"{word[:300]}: events are on {self._topology.events}, and nowhere else")

        async def find(tail: TailReader) -> bytes:
            archive = DecisionArchive(tail, self._topology)
            try:
                recorded = await archive.find(word, since_ms=since_ms)
            except DecisionNotFound as exc:
                raise await self._not_found(tail, place, str(exc)) from exc
            except BadCoordinates as exc:
                raise NotFound(str(exc)) from exc
            except SeveralDecisions as exc:
                raise SeveralEvents(str(exc), [named(s) for s in exc.sources[:_LISTED]]) from exc
            return record_of(recorded.decision)

        return await self._ask(find)

    async def explanation(self, record: bytes) -> bytes:
        """Why a *record*'s event was decided so, JSON.

        Raises Problem, and AnabranchError where it cannot be explained.
        """
        source = Decision.model_validate_json(record).source

        async def explain(tail: TailReader) -> bytes:
            archive = DecisionArchive(tail, self._topology)
            recorded = await archive.find(named(source))  # says at which attempt, too
            versions = RegistryVersions(self._file, self._registry)
            explainer = DecisionExplainer(self._file.pipeline, versions)
            wanted = explainer.wanted(recorded.decision)
            outputs = await archive.outputs(recorded, wanted)
            fields = await EventFields(tail, self._file.pipeline).of([recorded.source])
            event = RecordedEvent(recorded.decision, outputs, fields.get(recorded.source, {}))
            return explainer.explained(event).model_dump_json(by_alias=True).encode()

        return await self._ask(explain)

    async def ended(self, place: tuple[int, int]) -> Answer | None:
        """How the event at partition and offset has ended, if it has. Raises Problem."""
        source = Source(topic=self._topology.events, partition=place[0], offset=place[1])

        async def look(tail: TailReader) -> Answer | None:
            archive = DecisionArchive(tail, self._topology)
            try:
                recorded = await archive.find(named(source))
            except DecisionNotFound:
                letter = await EventRecords(tail, self._topology).dead_letter(source, None)
                return None if letter is None else buried(letter)
            return Answer(record_of(recorded.decision))

        return await self._ask(look, lasting=True)

    async def published(
        self, request: bytes, partitions: Collection[int], since_ms: int
    ) -> dict[int, tuple[int, int]]:
        """Which events of a request with a key are published since then, and where."""

        async def look(tail: TailReader) -> dict[int, tuple[int, int]]:
            places: dict[int, tuple[int, int]] = {}
            for partition in sorted(partitions):
                start = await tail.since(self._topology.events, partition, since_ms)
                async with aclosing(tail.chunks(self._topology.events, partition, start)) as chunks:
                    async for records in chunks:
                        for record in records:
                            number = _number_in(request, record)
                            if number is not None:
                                places.setdefault(number, (partition, record.offset))
            return places

        return await self._ask(look, lasting=True)

    async def _not_found(self, tail: TailReader, place: Source | None, detail: str) -> NotFound:
        """What there is instead of a decision: a dead letter, perhaps."""
        if place is not None:
            letter = await EventRecords(tail, self._topology).dead_letter(place, None)
            if letter is not None:
                dead = buried(letter)
                return NotFound(
                    f"{named(place)} has no decision: it is a dead letter: {dead.stage}: "
                    f"{dead.error}: {dead.reason}",
                    dead_letter={
                        "stage": dead.stage, "error": dead.error, "reason": dead.reason,
                    },
                )  # fmt: skip
        return NotFound(detail)

    async def _ask(
        self, question: Callable[[TailReader], Awaitable[T]], *, lasting: bool = False
    ) -> T:
        """Raises Overloaded, TooSlow, Unavailable, and what *question* raises.

        A *lasting* question waits for its turn rather than being refused.
        """
        while lasting and self._running >= self._limits.lookups:  # noqa: ASYNC110  # it is counted
            await asyncio.sleep(_TURN_S)
        if self._running >= self._limits.lookups:
            raise Overloaded(
                f"{self._running} lookups run, and no more than {self._limits.lookups} may at the "
                "same time: come again"
            )
        self._running += 1
        try:
            return await self._thread.run(self._answer(question))
        except TimeoutError as exc:
            raise TooSlow(
                504, f"nothing was found within {self._limits.lookup_within_s:g} s: ask by source, "
                "or with since=TIME",
            ) from exc  # fmt: skip
        except KafkaError as exc:
            raise Unavailable(f"the broker cannot be asked: {exc}") from exc
        finally:
            self._running -= 1

    async def _answer(self, question: Callable[[TailReader], Awaitable[T]]) -> T:
        async with asyncio.timeout(self._limits.lookup_within_s):
            tail = self._idle.pop() if self._idle else await self._started()
            try:
                answer = await question(tail)
            except (AnabranchError, Problem):
                self._idle.append(tail)
                raise
            except BaseException:
                await tail.stop()
                raise
            self._idle.append(tail)
            return answer

    async def _started(self) -> TailReader:
        tail = TailReader(self._settings)
        await tail.start()
        return tail


def record_of(decision: Decision) -> bytes:
    """A decision as it stands on its topic."""
    return decision.model_dump_json(by_alias=True, exclude_unset=True).encode()


def _number_in(request: bytes, record: ConsumerRecord) -> int | None:
    """Which event of *request* a record is; None for any other."""
    for name, value in record.headers:
        if name == REQUEST_HEADER and value is not None:
            digest, _, number = value.partition(b"/")
            if digest == request and number.isdigit():
                return int(number)
    return None
