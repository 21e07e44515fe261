"""Snapshots of a worker's past on a compacted topic, each with the offset it is valid for.

A snapshot is a run of records, pieces of `History.chunks`, and a manifest behind them. Keys
alternate between two places, so compaction keeps the last complete snapshot while the next
one is written over the one before.

Pieces are encoded, and read back, in a thread, a few at a time: so neither holds up the event loop,
and no more than these are in memory besides the past itself. They are of one state because nobody
changes it: whoever takes events in waits for `save`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import NamedTuple
from uuid import uuid4

from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.structs import ConsumerRecord
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from agents.windows import EntityPast, SourceProgress
from agents.workers import TailReader, Wiring
from models.features import History, MalformedChunk, WindowPlan
from models.registry import digest_of
from topics.kafka import KEPT_BYTES, MAX_RECORD_BYTES, Record

log = logging.getLogger(__name__)

_MANIFEST = "anabranch-manifest"
_PIECE = "anabranch-piece"
_LOOKED_AT = 8
_LOG_BYTES = KEPT_BYTES // 4
"""Of the log, on the embedded broker: what is in flight behind that is kept there too."""
_AT_ONCE_BYTES = 2 * 2**20
"""So many bytes of pieces are encoded before they are written."""


class _SourceReached(BaseModel):
    model_config = ConfigDict(extra="forbid")

    offset: int
    clock_ms: int


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    serial: NonNegativeInt
    token: str
    """Of the pieces too: a worker that has lost the partition may write at the same time."""
    pieces: dict[str, NonNegativeInt]
    """Records by history, in this order."""
    windows: str
    """Digest of what the pipeline file declares."""
    next_offset: NonNegativeInt
    """Of the log that the past is made from: what is to be read next."""
    reached: dict[str, _SourceReached]
    now_ms: int


class Snapshot(NamedTuple):
    """The past, and from where on its log is to be read."""

    past: EntityPast
    next_offset: int


class SnapshotStore:
    """Saves and loads the past of component *name*, by partition."""

    def __init__(self, wiring: Wiring, name: str, plan: WindowPlan) -> None:
        self._wiring = wiring
        self._plan = plan
        self._topic = wiring.topology.state(name)
        event = wiring.pipeline.event
        declared = [wiring.pipeline.component(name).model_dump_json(include={"features"}),
                    plan.entity, event.lateness, wiring.pipeline.outcomes.delay]  # fmt: skip
        if event.keys == "rekey":  # of a partition of the key, not of the events
            declared.append(event.keys)
        self._windows = digest_of("\n".join(declared).encode())

    def is_due(self, past: EntityPast) -> bool:
        """Something has changed, and time has passed, or the log is about to be dropped.

        The embedded broker keeps few bytes of it: a worker that starts anew has to find what was
        written since the snapshot.
        """
        return past.snapshot_is_due(_LOG_BYTES if self._wiring.settings.embedded else None)

    async def save(self, partition: int, past: EntityPast, next_offset: int) -> None:
        """Write a snapshot that is valid before *next_offset* of the log.

        The past must not change until this returns. Where the topic does not take a key's past, the
        snapshot before stays the newest, and that is logged: rows are not held up by it.
        """
        started = time.monotonic()
        await asyncio.to_thread(past.windows.forget, past.now_ms)
        past.serial += 1
        records = self._records(past, next_offset, {})
        try:
            while some := await asyncio.to_thread(_some, records):
                await self._wiring.app.writer.write(self._topic, partition, some)
        except MessageSizeTooLargeError:
            past.serial -= 1  # the next one goes over this one, not over the last that is whole
            log.error(  # noqa: TRY400  # no traceback: it says all there is
                "%s[%d] takes no snapshot: the past of one key is larger than its records may be. "
                "Set its max.message.bytes to 16777216; until then a worker that starts reads the "
                "log from where the snapshot before was taken", self._topic, partition,
            )  # fmt: skip
        past.saved(started)

    def _records(
        self, past: EntityPast, next_offset: int, counts: dict[str, int]
    ) -> Iterator[Record]:
        place, now_ms = past.serial % 2, int(time.time() * 1000)
        token = uuid4().hex
        for name, history in past.windows.histories.items():
            counts[name] = 0
            for chunk in history.chunks(MAX_RECORD_BYTES):
                key = f"{place}/{name}/{counts[name]}".encode()
                yield Record(key, chunk, now_ms, [(_PIECE, token.encode())])
                counts[name] += 1
        manifest = _Manifest(
            serial=past.serial, token=token, pieces=counts, windows=self._windows,
            next_offset=next_offset,
            reached={source: _SourceReached(offset=reached.offset, clock_ms=reached.clock_ms)
                     for source, reached in past.reached.items()},
            now_ms=past.now_ms,
        )  # fmt: skip
        value = manifest.model_dump_json().encode()
        yield Record(f"{place}/manifest".encode(), value, now_ms, [(_MANIFEST, token.encode())])

    async def load(self, tail: TailReader, partition: int) -> Snapshot | None:
        """The newest complete snapshot; None when there is none of these windows."""
        first, end = await tail.bounds(self._topic, partition)
        while end > first:
            start = max(first, end - _LOOKED_AT)
            for record in reversed(await tail.between(self._topic, partition, start, end)):
                if (snapshot := await self._read(tail, partition, record)) is not None:
                    return snapshot
            end = start
        return None

    async def _read(
        self, tail: TailReader, partition: int, record: ConsumerRecord
    ) -> Snapshot | None:
        """The snapshot whose manifest *record* is; None when it is none, or not whole."""
        if _MANIFEST not in dict(record.headers):
            return None
        try:
            manifest = _Manifest.model_validate_json(record.value or b"")
            if manifest.windows != self._windows:
                log.warning(
                    "%s[%d]@%d is a snapshot of other windows: the past is read again",
                    self._topic, partition, record.offset,
                )  # fmt: skip
                return None
            past = await self._past(tail, partition, record.offset, manifest)
            past.loaded(record.timestamp)
            return Snapshot(past, manifest.next_offset)
        except (ValidationError, MalformedChunk) as exc:
            log.warning("%s[%d]@%d skipped: %s", self._topic, partition, record.offset, exc)
            return None

    async def _past(
        self, tail: TailReader, partition: int, offset: int, manifest: _Manifest
    ) -> EntityPast:
        """The past of a manifest at *offset*. Raises MalformedChunk when it is not whole."""
        past = EntityPast.empty(self._plan)
        past.serial, past.now_ms = manifest.serial, manifest.now_ms
        past.reached = {
            source: SourceProgress(reached.offset, reached.clock_ms)
            for source, reached in manifest.reached.items()
        }
        if unknown := manifest.pieces.keys() - past.windows.histories.keys():
            raise MalformedChunk(f"it has a history of {', '.join(sorted(unknown))}")
        names = [name for name, count in manifest.pieces.items() for _ in range(count)]
        token, taken = manifest.token.encode(), 0
        chunks = tail.between_chunks(self._topic, partition, offset - len(names), offset)
        async with aclosing(chunks):
            async for records in chunks:
                pieces = [r.value or b"" for r in records if dict(r.headers).get(_PIECE) == token]
                of = [past.windows.histories[name] for name in names[taken : taken + len(pieces)]]
                await asyncio.to_thread(_restore, of, pieces)
                taken += len(pieces)
        if taken != len(names):
            raise MalformedChunk(f"{taken} of {len(names)} pieces are there")
        return past


def _some(records: Iterator[Record]) -> list[Record]:
    """The next records, a few megabytes of them; none at the end."""
    some, size = list[Record](), 0
    for record in records:
        some.append(record)
        size += record.size
        if size >= _AT_ONCE_BYTES:
            break
    return some


def _restore(histories: Sequence[History], pieces: Sequence[bytes]) -> None:
    for history, piece in zip(histories, pieces, strict=False):
        history.restore(piece)
