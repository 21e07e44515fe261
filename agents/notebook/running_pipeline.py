"""A running pipeline behind plain calls: published to, and its decisions read.

Its components run in a process of their own, as `anabranch run` has them; publishing and following
run in an event loop in a thread of this one, so that a notebook, which has a loop itself, can call.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from aiokafka import AIOKafkaProducer

from agents.broker import ensure_topics, follower, wait_for_broker
from agents.offline import FileEvents
from agents.process.child_process import WorkerProcess, worker_process
from agents.publish import InFlight, OutcomePublisher, chunks_that_fit
from agents.publish import publisher as publishing
from agents.service.open_pipeline import check_trained
from models.data import FrameTable
from models.registry import Registry
from topics.errors import AnabranchError
from topics.kafka import MAX_IN_FLIGHT, EmbeddedBroker
from topics.pipeline import PipelineFile, Topology
from topics.settings import BrokerSettings

T = TypeVar("T")

_LOOK_S = 0.05
_STOP_S = 60.0


class NotRunning(AnabranchError):
    """The pipeline does not run, or not any more."""

    def __init__(self, pipeline: str) -> None:
        super().__init__(
            f"{pipeline} does not run here: publish and read in `with pipeline.running() as "
            "running:`"
        )


class NotDecided(AnabranchError):
    """Events have not ended in time."""

    def __init__(self, pipeline: str, events: int, waited_s: float) -> None:
        super().__init__(
            f"{events:,} events of {pipeline} have no decision after {waited_s:g} s: wait longer "
            "(timeout_s), or see what the workers say on stderr"
        )


class RunningPipeline:
    """Use it in a `with` statement, see `Pipeline.running`."""

    def __init__(self, file: PipelineFile, registry: Registry, broker: str | None) -> None:
        self._file, self._registry, self._broker = file, registry, broker
        self._topology = Topology.of(file.pipeline)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._up = threading.Event()
        self._stopping: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._kafka: AIOKafkaProducer | None = None
        self._in_flight: InFlight | None = None
        self._settings: BrokerSettings | None = None
        self._known: OutcomePublisher | None = None
        self._like: FrameTable | None = None
        self._published = self._ended = 0
        self._decisions: list[Mapping[str, Any]] = []
        self._letters: list[Mapping[str, Any]] = []

    # -- for callers

    @property
    def broker(self) -> str:
        """host:port, for other clients. Raises NotRunning."""
        if self._settings is None:
            raise NotRunning(self._file.pipeline.name)
        return self._settings.broker

    def publish(self, rows: Any) -> int:
        """Publish *rows* (a frame, a path, or events as dicts); how many these are.

        Their labels, if there are any, follow as outcomes. Returns when the broker has them; on an
        embedded broker, which keeps few, when so many are decided that the rest has room.
        """
        source: str | FrameTable
        if isinstance(rows, Sequence) and not isinstance(rows, str):
            labelled: Iterator[tuple[Mapping[str, object], bool | None]]
            labelled = ((event, None) for event in rows)
        else:
            source = FrameTable.of(rows) if hasattr(rows, "columns") else str(rows)
            self._like = source if isinstance(source, FrameTable) else None
            labelled = _labelled(FileEvents(self._file.pipeline, source))
        return self._call(self._publish(labelled))

    def decisions(self, timeout_s: float = 300.0) -> Any:
        """Wait until all that was published has ended; the decisions since the last call.

        A frame as that which was published last, else an Arrow table. Raises NotDecided.
        """
        import pyarrow as pa

        self._call(self._all_ended(timeout_s))
        decided, self._decisions = self._decisions, []
        table = pa.Table.from_pylist([*decided], schema=_schema(self._file))
        return table if self._like is None else self._like.like(table)

    def dead_letters(self, timeout_s: float = 300.0) -> list[Mapping[str, Any]]:
        """Wait likewise; what ended in dead letters since the last call: stage, error, reason."""
        self._call(self._all_ended(timeout_s))
        letters, self._letters = self._letters, []
        return letters

    def __enter__(self) -> Self:
        """Start all components; returns when they own their partitions. Raises RegistryError."""
        check_trained(self._file.pipeline, self._registry)  # said before anything is started
        self._thread = threading.Thread(target=self._run, name="anabranch", daemon=True)
        self._thread.start()
        self._up.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        loop, stopping, thread = self._loop, self._stopping, self._thread
        if loop is not None and stopping is not None and thread is not None:
            if thread.is_alive():
                loop.call_soon_threadsafe(stopping.set)
            thread.join(_STOP_S)
        self._loop = self._settings = None
        if self._failure is not None and kind is None:
            raise self._failure

    # -- in the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as exc:  # the boundary of a thread: its caller raises it
            self._failure = exc
        finally:
            self._up.set()

    async def _serve(self) -> None:
        self._stopping = asyncio.Event()
        async with AsyncExitStack() as stack:
            if self._broker is None:
                address = stack.enter_context(EmbeddedBroker()).address
                settings = BrokerSettings(broker=address, embedded=True)
            else:
                settings = BrokerSettings(broker=self._broker)
            await wait_for_broker(settings)
            if self._broker is None:
                await ensure_topics(settings, self._topology)
            self._kafka = await stack.enter_async_context(publishing.producer(settings))
            self._in_flight = await stack.enter_async_context(InFlight.of(settings, self._topology))
            consumer = await stack.enter_async_context(follower(
                settings, (self._topology.decisions, self._topology.dead_letters),
                self._topology.partitions, from_start=False, prompt=True,
            ))  # fmt: skip
            workers = await stack.enter_async_context(
                worker_process(self._file.path, self._registry.root, settings)
            )
            self._known = OutcomePublisher(self._file.pipeline, wanted=self._broker is None)
            self._settings, self._loop = settings, asyncio.get_running_loop()
            self._up.set()
            await self._until_stopped(workers, self._follow(consumer))

    async def _until_stopped(
        self, workers: WorkerProcess, following: Coroutine[Any, Any, None]
    ) -> None:
        """Follow until the caller stops, or the workers end, which is their error."""
        if self._stopping is None:
            raise ValueError("it was not started")
        tasks = [
            asyncio.ensure_future(each)
            for each in (self._stopping.wait(), workers.ended(), following)
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except BaseException as exc:
            self._failure = exc  # whoever waits is told
            raise
        finally:
            for task in tasks:
                task.cancel()

    async def _follow(self, consumer: Any) -> None:
        while True:
            found = await consumer.getmany(timeout_ms=500)
            for tp, records in found.items():
                for record in records:
                    if tp.topic == self._topology.decisions:
                        self._decisions.append(_row(self._file, json.loads(record.value)))
                    else:
                        self._letters.append(_letter(record))
                self._ended += len(records)

    async def _publish(self, labelled: Iterator[tuple[Mapping[str, object], bool | None]]) -> int:
        kafka, in_flight, known, settings = (
            self._kafka, self._in_flight, self._known, self._settings
        )  # fmt: skip
        if kafka is None or in_flight is None or known is None or settings is None:
            raise NotRunning(self._file.pipeline.name)
        topology, count, stopping = self._topology, 0, asyncio.Event()
        room = in_flight.room(MAX_IN_FLIGHT) if settings.embedded else None
        async with chunks_that_fit(settings, topology, in_flight) as fitting:
            async for chunk in publishing.due_chunks(
                known.following(labelled), schedule=None, room=room
            ):
                await known.publish_known(kafka)
                async for part in fitting(chunk, stopping):
                    self._raise_failure()
                    await publishing.publish_chunk(
                        kafka, topology.events, topology.partitions, part
                    )
                    count += len(part)
                    self._published += len(part)
        return count

    async def _all_ended(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._ended < self._published:
            self._raise_failure()
            if time.monotonic() > deadline:
                raise NotDecided(self._file.pipeline.name, self._published - self._ended, timeout_s)
            await asyncio.sleep(_LOOK_S)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The result of *coroutine*, run where the broker's clients live."""
        loop = self._loop
        if loop is None or loop.is_closed():
            coroutine.close()
            raise self._failure or NotRunning(self._file.pipeline.name)
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def _labelled(events: FileEvents) -> Iterator[tuple[Mapping[str, object], bool | None]]:
    for chunk in events.chunks():
        for place, event in enumerate(chunk.events):
            known = chunk.labels is not None and chunk.known is not None and chunk.known[place]
            yield event, bool(chunk.labels[place]) if known and chunk.labels is not None else None


def _schema(file: PipelineFile) -> Any:
    import pyarrow as pa

    signals = [(f"signal.{name}", pa.float64()) for name in file.pipeline.weighting.inputs]
    return pa.schema([
        ("event_id", pa.string()), ("decision", pa.string()), ("score", pa.float64()), *signals,
        ("degraded", pa.bool_()), ("event_time", pa.string()), ("latency_ms", pa.float64()),
        ("source_partition", pa.int64()), ("source_offset", pa.int64()),
    ])  # fmt: skip


def _row(file: PipelineFile, decision: Mapping[str, Any]) -> Mapping[str, Any]:
    """A decision record as a row."""
    plain = ("event_id", "decision", "score", "degraded", "event_time", "latency_ms")
    said, source = decision["contributions"], decision["source"]
    signals = {
        f"signal.{name}": said[name]["signal"] if name in said else None
        for name in file.pipeline.weighting.inputs
    }
    return {
        **{name: decision[name] for name in plain}, **signals,
        "source_partition": source["partition"], "source_offset": source["offset"],
    }  # fmt: skip


def _letter(record: Any) -> Mapping[str, Any]:
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    return {
        "stage": headers.get("x-error-stage", ""), "error": headers.get("x-error-class", ""),
        "reason": headers.get("x-error-reason", ""), "value": record.value,
    }  # fmt: skip
