"""Time and memory of windows over the past of many keys.

python -m tests.benchmarks.history [--json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import psutil

from models.arrays import Floats64, Ints
from models.features.history import Aggregate, History

DAY_MS = 86_400_000
KEEP_MS = 30 * DAY_MS
AGGREGATES = [
    *(Aggregate("count", None, days * DAY_MS) for days in (1, 7, 30)),
    *(Aggregate("mean", 0, days * DAY_MS) for days in (1, 7, 30)),
    Aggregate("since_last", None, KEEP_MS),
]
KEYS, ENTRIES = 5_000, 60
"""Keys, and entries that the longest window of each holds, where time is measured."""
MANY_KEYS, FEW_ENTRIES = 1_000_000, 20
"""The same, where memory is measured."""
CHUNK_BYTES = 500_000

Rows = tuple[list[str], Ints, Ints, Floats64]


def rows(begin: int, count: int, keys: int, entries: int) -> Rows:
    """Rows in order of time, such that each of *keys* has *entries* of them in 30 days."""
    rng = np.random.default_rng(begin)
    names = [f"customer-{number}" for number in rng.integers(0, keys, count).tolist()]
    at = np.arange(begin, begin + count)
    return names, at * (KEEP_MS // (keys * entries)), at, rng.random((count, 1))


def filled(keys: int, entries: int, count: int) -> History:
    """A history after *count* rows."""
    history = History(width=1, keep_ms=KEEP_MS, lateness_ms=0)
    for begin in range(0, count, 8192):
        history.add(*rows(begin, min(8192, count - begin), keys, entries))
    return history


def observe_us(batch: int) -> float:
    """Time of `observe` with 7 aggregates for each row, in microseconds, in batches of *batch*."""
    begin = 2 * KEYS * ENTRIES
    history = filled(KEYS, ENTRIES, begin)
    batches = min(max(100_000 // batch, 20), 2_000)
    spent = 0.0
    for at in range(begin, begin + batches * batch, batch):
        given = rows(at, batch, KEYS, ENTRIES)
        began = time.perf_counter()
        history.observe(*given, AGGREGATES)
        spent += time.perf_counter() - began
    return spent / (batches * batch) * 1e6


def timed(action: Callable[[], object]) -> float:
    """Seconds that *action* takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def rss_mb() -> float:
    """Resident memory of this process, in MB."""
    return psutil.Process().memory_info().rss / 1e6


def grown() -> Iterator[tuple[str, float]]:
    """Memory after many keys have come one row at a time, and what a snapshot and evict take."""
    history = filled(MANY_KEYS, FEW_ENTRIES, MANY_KEYS * FEW_ENTRIES)
    yield "1,000,000 keys grown row by row: process, MB", rss_mb()
    yield "1,000,000 keys grown row by row: entries each", history.entries / history.keys
    written = 0

    def snapshot() -> None:
        nonlocal written
        written = sum(map(len, history.chunks(CHUNK_BYTES)))

    seconds = timed(snapshot)
    yield "snapshot, MB/s", written / 1e6 / seconds
    yield "evict half of the entries, s", timed(partial(history.evict, KEEP_MS // 2))
    yield "1,000,000 keys, half of the entries evicted: process, MB", rss_mb()


def restored() -> Iterator[tuple[str, float]]:
    """Memory and speed of restoring many keys from chunks."""
    history = History(width=1, keep_ms=KEEP_MS, lateness_ms=0)
    seconds = 0.0
    per_chunk = CHUNK_BYTES // (24 * FEW_ENTRIES + 24)
    for begin in range(0, MANY_KEYS, per_chunk):
        count = min(per_chunk, MANY_KEYS - begin)
        names = [f"customer-{number}" for number in range(begin, begin + count)]
        part = History(width=1, keep_ms=KEEP_MS, lateness_ms=0)
        at = np.arange(count * FEW_ENTRIES)
        part.add(names * FEW_ENTRIES, at, at, np.zeros((len(at), 1)))
        for chunk in part.chunks(CHUNK_BYTES):
            seconds += timed(partial(history.restore, chunk))
    yield "1,000,000 keys restored: process, MB", rss_mb()
    yield "restore, keys/s", history.keys / seconds


def observing() -> Iterator[tuple[str, float]]:
    """Time of a row in batches of each size."""
    for batch in (1, 100, 1000, 8192):
        yield f"observe in batches of {batch}, µs/row", observe_us(batch)


def measured(measure: Callable[[], Iterator[tuple[str, float]]]) -> list[tuple[str, float]]:
    """All figures of *measure*."""
    return list(measure())


def main() -> None:
    """Measure each in a process of its own and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    as_json = parser.parse_args().json
    figures: dict[str, float] = {}
    for measure in (observing, restored, grown):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures.update(pool.apply(measured, (measure,)))
    if as_json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:<60} {figure:>12,.1f}")


if __name__ == "__main__":
    main()
