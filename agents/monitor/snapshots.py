"""Snapshots of what watchers have counted, with the positions that they cover.

A snapshot is a run of records on partition 0 of `<pipeline>.monitor.state`, pieces of each
watcher's state, and a manifest behind them. Keys alternate between two places, so that compaction
keeps the last whole snapshot while the next one is written. Decisions that wait for outcomes are
not in it, but from where on their records are to be read again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from topics.kafka import MAX_RECORD_BYTES, Record

log = logging.getLogger(__name__)

_MANIFEST, _PIECE = "anabranch-manifest", "anabranch-piece"

Positions = dict[str, dict[int, NonNegativeInt]]
"""Topic → partition → the offset of the next record."""


class Manifest(BaseModel):
    """What a snapshot covers."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    serial: NonNegativeInt
    token: str = ""
    """Of the pieces too."""
    pieces: dict[str, NonNegativeInt] = {}
    """Records by watcher."""
    positions: Positions = {}
    """What was taken in: everything before."""
    resume: Positions = {}
    """From where on there are decisions that wait, outcomes, and events about them."""
    topics: dict[str, str] = {}
    """Topic → its id: of another one with its name no position means anything."""
    clock_ms: int = -1
    floors: tuple[int, int] | None = None
    counts: dict[str, NonNegativeInt] = {}


class Snapshot(NamedTuple):
    """A whole snapshot."""

    manifest: Manifest
    states: Mapping[str, bytes]
    """By watcher."""


def snapshot_records(snapshot: Snapshot, now_ms: int) -> Iterator[Record]:
    """The records of a snapshot, in order; its token and pieces are made here."""
    token, place = uuid4().hex, snapshot.manifest.serial % 2
    pieces: dict[str, int] = {}
    for name, state in snapshot.states.items():
        starts = range(0, max(1, len(state)), MAX_RECORD_BYTES)
        pieces[name] = len(starts)
        for number, start in enumerate(starts):
            piece = state[start : start + MAX_RECORD_BYTES]
            key = f"{place}/{name}/{number}".encode()
            yield Record(key, piece, now_ms, [(_PIECE, token.encode())])
    manifest = snapshot.manifest.model_copy(update={"token": token, "pieces": pieces})
    value = manifest.model_dump_json().encode()
    yield Record(f"{place}/manifest".encode(), value, now_ms, [(_MANIFEST, token.encode())])


def newest_snapshot(records: Iterable[Any]) -> Snapshot | None:
    """The newest whole snapshot among all *records* of the partition; None without one."""
    last = {record.key: record for record in records}
    manifests = sorted(
        filter(None, map(_manifest, last.values())), key=lambda manifest: -manifest.serial
    )
    for manifest in manifests:
        states: dict[str, bytes] = {}
        for name, count in manifest.pieces.items():
            keys = [f"{manifest.serial % 2}/{name}/{number}".encode() for number in range(count)]
            pieces = [last[key] for key in keys if key in last]
            if [dict(piece.headers).get(_PIECE) for piece in pieces] == (
                [manifest.token.encode()] * count
            ):
                states[name] = b"".join(piece.value or b"" for piece in pieces)
        if len(states) == len(manifest.pieces):
            return Snapshot(manifest, states)
        log.warning("snapshot %d of the monitor is not whole: passed over", manifest.serial)
    return None


def _manifest(record: Any) -> Manifest | None:
    if _MANIFEST not in dict(record.headers):
        return None
    try:
        return Manifest.model_validate_json(record.value or b"")
    except ValidationError as exc:
        log.warning("@%d is no manifest of a snapshot: %s", record.offset, exc)
        return None
