"""Probe rows: a few real rows, and to the bit what a model says of them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from zipfile import BadZipFile

import numpy as np

from models.arrays import Floats32, Ints

PROBE_ROWS = 64
"""How many rows a probe has at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """N rows and the signals that the model had for them when it was registered."""

    rows: Floats32
    """(N, F)."""
    signals: Floats32
    """(N,)."""

    def __post_init__(self) -> None:
        if self.rows.dtype != np.float32 or self.signals.dtype != np.float32:
            raise ValueError("probe rows and their signals are float32")
        if self.rows.ndim != 2 or self.signals.shape != self.rows.shape[:1]:
            raise ValueError(f"rows {self.rows.shape} and signals {self.signals.shape} do not fit")
        if not 0 < len(self.rows) <= PROBE_ROWS:
            raise ValueError(f"a probe has 1 to {PROBE_ROWS} rows, not {len(self.rows)}")

    def to_bytes(self) -> bytes:
        """As a NumPy archive; equal bytes for equal bits."""
        file = io.BytesIO()
        np.savez(file, rows=self.rows, signals=self.signals)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Probe:
        """Read what `to_bytes` wrote; ValueError when it is something else."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                return cls(file["rows"], file["signals"])
        except (KeyError, ValueError, TypeError, OSError, EOFError, BadZipFile) as exc:
            raise ValueError(f"no probe rows: {str(exc).splitlines()[0]}") from exc


def spread_rows(rows: Floats32, count: int = PROBE_ROWS) -> Floats32:
    """At most *count* of *rows* (N, F), from the first to the last, equally far apart.

    >>> spread_rows(np.arange(10, dtype=np.float32).reshape(10, 1), 4).ravel().tolist()
    [0.0, 3.0, 6.0, 9.0]
    """
    return np.ascontiguousarray(rows[spread_places(len(rows), count)])


def spread_places(rows: int, count: int) -> Ints:
    """At most *count* places among so many *rows*, from the first to the last, equally far apart.

    >>> spread_places(10, 4).tolist()
    [0, 3, 6, 9]
    """
    return np.linspace(0, rows - 1, min(count, rows)).round().astype(np.int64)
