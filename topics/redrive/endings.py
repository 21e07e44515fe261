"""Which attempts of a partition have ended, and how, in one record of the redrive topic.

Such a summary stands behind the ending records that it sums up, and says where the summary before
it is: so whoever starts follows these from the end of the partition, and reads no record twice.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from topics.errors import WireError
from topics.kafka import Record
from topics.records import Bools, Ints

HEADER = "x-redrive-ends"
MOST_ENDINGS = 100_000
"""Ends in one summary, at most: about 300 KB."""


class _Header(BaseModel):
    """What the header says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    ends: Annotated[int, Field(ge=1, le=MOST_ENDINGS)]
    previous: Annotated[int, Field(ge=-1, lt=2**63)]
    complete: bool


@dataclass(frozen=True, slots=True)
class Endings:
    """Ends of attempts (N,), by ascending source offset."""

    offsets: Ints
    attempts: NDArray[np.uint16]
    decided: Bools
    """In a decision; the others in a dead letter."""

    def __len__(self) -> int:
        return len(self.offsets)

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, bool]]) -> Self:
        """Source offset, attempt, and whether it is decided, in any order."""
        ordered = sorted(rows)
        return cls(
            np.array([row[0] for row in ordered], np.int64),
            np.array([row[1] for row in ordered], np.uint16),
            np.array([row[2] for row in ordered], np.bool_),
        )

    def merged(self, other: Self) -> Self:
        """Those of both."""
        offsets = np.concatenate([self.offsets, other.offsets])
        order = np.argsort(offsets, kind="stable")
        return type(self)(
            offsets[order],
            np.concatenate([self.attempts, other.attempts])[order],
            np.concatenate([self.decided, other.decided])[order],
        )


@dataclass(frozen=True, slots=True)
class EndingSummary:
    """The ends since the previous summary."""

    ends: Endings
    previous: int
    """Offset of the summary before, in the same partition of the redrive topic; -1 for none."""
    complete: bool = True
    """With those before, it has all ends that are told of before it; else more summaries follow."""


def is_summary(headers: Sequence[tuple[str, bytes]]) -> bool:
    """The record is a summary, or was meant to be one."""
    return any(name == HEADER for name, _ in headers)


def encode_summary(summary: EndingSummary, now_ms: int) -> Record:
    """The summary as a record."""
    ends = summary.ends
    gaps = np.diff(ends.offsets, prepend=np.int64(0)).astype("<i8")
    attempts = ends.attempts.astype("<u2")
    value = zlib.compress(b"".join([gaps.tobytes(), attempts.tobytes(), ends.decided.tobytes()]))
    header = _Header(ends=len(ends), previous=summary.previous, complete=summary.complete)
    return Record(None, value, now_ms, [(HEADER, header.model_dump_json().encode())])


def decode_summary(value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> EndingSummary:
    """The summary of a record; WireError, with the reason, for anything else."""
    try:
        header = _Header.model_validate_json(dict(headers)[HEADER] or b"")
        n = header.ends
        unpacker = zlib.decompressobj()
        blob = unpacker.decompress(value or b"", 11 * n + 1)
    except (KeyError, ValidationError, zlib.error) as exc:
        raise WireError(f"not a summary of ends: {exc}") from exc
    if len(blob) != 11 * n:
        raise WireError(f"not a summary of ends: {n} ends do not fit its value")
    ends = Endings(
        np.cumsum(np.frombuffer(blob, "<i8", n)).astype(np.int64),
        np.frombuffer(blob, "<u2", n, 8 * n).astype(np.uint16),
        np.frombuffer(blob, np.uint8, n, 10 * n) > 0,
    )
    return EndingSummary(ends, header.previous, header.complete)
