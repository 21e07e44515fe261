"""Snapshots of a worker's past on a compacted topic, each with the offset it is valid for.

A snapshot is a run of records, pieces of `History.chunks`, and a manifest behind them. Keys
alternate between two slots, so compaction keeps the last complete snapshot while the next
one is written over the one before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import NamedTuple
from uuid import uuid4

from aiokafka.structs import ConsumerRecord
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from agents.past import Past, Reached
from agents.stage_writer import MAX_RECORD_BYTES
from agents.tail import TailReader
from agents.worker import Wiring
from models.history_errors import MalformedChunk
from models.registry import digest_of
from models.windows import WindowPlan
from topics.batches import Record

log = logging.getLogger(__name__)

_MANIFEST = "anabranch-manifest"
_PIECE = "anabranch-piece"
_LOOKED_AT = 8


class _Reached(BaseModel):
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
    reached: dict[str, _Reached]
    now_ms: int


class Snapshot(NamedTuple):
    """The past, and from where on its log is to be read."""

    past: Past
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

    async def save(self, partition: int, past: Past, next_offset: int) -> None:
        """Write a snapshot that is valid before *next_offset* of the log."""
        started = time.monotonic()
        past.windows.forget(past.now_ms)
        past.serial += 1
        counts: dict[str, int] = {}
        await self._wiring.app.writer.write(
            self._topic, partition, self._records(past, next_offset, counts)
        )
        past.saved(started)

    def _records(self, past: Past, next_offset: int, counts: dict[str, int]) -> Iterator[Record]:
        slot, now_ms = past.serial % 2, int(time.time() * 1000)
        token = uuid4().hex
        for name, history in past.windows.histories.items():
            counts[name] = 0
            for chunk in history.chunks(MAX_RECORD_BYTES):
                key = f"{slot}/{name}/{counts[name]}".encode()
                yield Record(key, chunk, now_ms, [(_PIECE, token.encode())])
                counts[name] += 1
        manifest = _Manifest(
            serial=past.serial, token=token, pieces=counts, windows=self._windows,
            next_offset=next_offset,
            reached={source: _Reached(offset=it.offset, clock_ms=it.clock_ms)
                     for source, it in past.reached.items()},
            now_ms=past.now_ms,
        )  # fmt: skip
        value = manifest.model_dump_json().encode()
        yield Record(f"{slot}/manifest".encode(), value, now_ms, [(_MANIFEST, token.encode())])

    async def load(self, tail: TailReader, partition: int) -> Snapshot | None:
        """The newest complete snapshot; None when there is none of these windows."""
        first, end = await tail.bounds(self._topic, partition)
        while end > first:
            start = max(first, end - _LOOKED_AT)
            for record in reversed(await tail.between(self._topic, partition, start, end)):
                if (found := await self._read(tail, partition, record)) is not None:
                    return found
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
            total = sum(manifest.pieces.values())
            pieces = await tail.between(
                self._topic, partition, record.offset - total, record.offset
            )
            past = self._past(manifest, pieces, total)
            past.loaded(record.timestamp)
            return Snapshot(past, manifest.next_offset)
        except (ValidationError, MalformedChunk) as exc:
            log.warning("%s[%d]@%d skipped: %s", self._topic, partition, record.offset, exc)
            return None

    def _past(self, manifest: _Manifest, records: list[ConsumerRecord], total: int) -> Past:
        token = manifest.token.encode()
        whole = [r for r in records if dict(r.headers).get(_PIECE) == token]
        if len(whole) != total:
            raise MalformedChunk(f"{len(whole)} of {total} pieces are there")
        past = Past.empty(self._plan)
        past.serial, past.now_ms = manifest.serial, manifest.now_ms
        past.reached = {
            source: Reached(it.offset, it.clock_ms) for source, it in manifest.reached.items()
        }
        pieces = iter(whole)
        for name, count in manifest.pieces.items():
            history = past.windows.histories.get(name)
            if history is None:
                raise MalformedChunk(f"it has a history of {name}")
            for _ in range(count):
                history.restore(next(pieces).value or b"")
        return past
