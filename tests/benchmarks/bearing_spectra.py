"""Vibration spectra of rolling bearings, some damaged: a vector of 512 numbers an event.

    python -m tests.benchmarks.bearing_spectra spectra.parquet --rows 20000

Simulated. A damaged outer race is struck by every ball: lines at multiples of its frequency,
n/2 · f · (1 - d/D · cos φ), around a resonance of the housing (Randall and Antoni, *Rolling
element bearing diagnostics: a tutorial*, Mech. Syst. Signal Process. 25, 2011). The shaft's
speed f is another in every reading, so the lines are never twice in the same bins. Sound
bearings hum too: lines of the shaft, of gears, and knocks that excite the resonance alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from models.component import Batch, Component, StageOutput

BINS = 512
_BIN_HZ = 12.5
_BALLS, _DIAMETERS, _ANGLE = 9, 0.2, 0.0
_DAMAGED = 0.1
_START = np.datetime64("2025-01-06T06:00:00", "ms")
_READING_MS = 2_000
_BEARINGS = 200
_CHUNK = 2_000

Doubles = NDArray[np.float64]


class Levels(Component):
    """Amplitudes as levels, log(1 + 100 a): what is quiet counts too."""

    def transform(self, batch: Batch) -> StageOutput:
        levels = np.log1p(100 * batch.columns["spectrum"])
        return StageOutput(levels, np.clip(levels.mean(axis=1) / 4, 0, 1).astype(np.float32))


def spectra(rng: np.random.Generator, damaged: NDArray[np.bool_]) -> Doubles:
    """The amplitudes of one reading for each of *damaged* (N,), (N, 512)."""
    rows = len(damaged)
    hz: Doubles = (np.arange(BINS, dtype=np.float64) + 0.5) * _BIN_HZ
    shaft = rng.uniform(18, 32, rows)
    found = rng.rayleigh(0.02, (rows, BINS)) * (1 + 400 / (hz + 200))
    for order in range(1, 6):
        found += _lines(hz, shaft * order, rng.gamma(2, 0.1, rows) / order)
    found += _lines(hz, shaft * 31, rng.gamma(1.5, 0.05, rows))  # gears
    resonance, width = rng.uniform(2200, 3400, rows), rng.uniform(250, 500, rows)
    hump = np.exp(-(((hz - resonance[:, None]) / width[:, None]) ** 2))
    knocks = np.where(damaged, rng.gamma(1, 0.02, rows), rng.gamma(1, 0.035, rows))
    found += knocks[:, None] * hump * rng.rayleigh(0.8, (rows, BINS))
    struck = shaft * _BALLS / 2 * (1 - _DIAMETERS * np.cos(_ANGLE))
    depth = np.where(damaged, rng.gamma(2, 0.028, rows), 0)
    comb = np.zeros((rows, BINS))
    for order in range(1, int(hz[-1] / struck.min()) + 1):
        comb += _lines(hz, struck * order, np.ones(rows))
    return found + depth[:, None] * comb * (0.15 + hump)


def _lines(hz: Doubles, at: Doubles, height: Doubles) -> Doubles:
    """A line at *at* (N,) Hz of *height* (N,), as wide as the window makes it."""
    return height[:, None] * np.exp(-(((hz - at[:, None]) / (1.2 * _BIN_HZ)) ** 2))


def written(path: Path, rows: int, seed: int) -> None:
    """Write *rows* readings as a Parquet file."""
    rng = np.random.default_rng(seed)
    damaged = rng.random(rows) < _DAMAGED
    parts = [spectra(rng, damaged[at : at + _CHUNK]) for at in range(0, rows, _CHUNK)]
    values = np.concatenate(parts).round(4).ravel()
    columns = {
        "reading_id": [f"r-{row:07}" for row in range(rows)],
        "bearing_id": [f"b-{number:03}" for number in rng.integers(0, _BEARINGS, rows)],
        "measured_at": _START + np.arange(rows) * np.timedelta64(_READING_MS, "ms"),
        "spectrum": pa.FixedSizeListArray.from_arrays(pa.array(values), BINS),
        "damaged": damaged,
    }
    parquet.write_table(pa.table(columns), path)


def main() -> None:
    """Write a file of readings."""
    parser = argparse.ArgumentParser(description="vibration spectra of bearings, as Parquet")
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    written(given.file, given.rows, given.seed)


if __name__ == "__main__":
    main()
