"""How fast variants are: interleaved, in processor time, as ratios within one round."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from models.arrays import Floats32, Floats64
from models.registry import Speed

Run = Callable[[Floats32], Floats32]

ROUNDS = 31
_SAMPLE_S = 0.002
"""A batch is run again and again for about so long: the clock and the caches have settled."""
_SIGN_TEST_Z = 1.96


class Timings(NamedTuple):
    """Seconds a row of every run, in every round, at every batch size."""

    batches: Sequence[int]
    seconds: Mapping[str, Floats64]
    """Name → (rounds, batch sizes)."""


def timed(
    runs: Mapping[str, Run],
    rows: Floats32,
    batches: Sequence[int],
    *,
    clock: Callable[[], float],
    seed: int,
    rounds: int = ROUNDS,
    progress: Callable[[float], None] = lambda _: None,
) -> Timings:
    """Every run of *runs* on the first rows of *rows*, in turns whose order is drawn anew.

    `clock` gives seconds: `time.thread_time`, as a session works in its caller's thread, and
    other processes of a busy machine do not count then.
    """
    blocks = [_block(rows, size) for size in batches]
    repeats = [_repeats(next(iter(runs.values())), block, clock) for block in blocks]
    names, rng = list(runs), np.random.default_rng(seed)
    seconds = {name: np.zeros((rounds, len(batches))) for name in names}
    for run in runs.values():
        for block in blocks:
            run(block)
    with _without_collections():
        for turn in range(rounds):
            for place, (block, repeat) in enumerate(zip(blocks, repeats, strict=True)):
                for name in rng.permutation(names).tolist():
                    spent = _spent(runs[name], block, repeat, clock)
                    seconds[name][turn, place] = spent / (repeat * len(block))
            progress((turn + 1) / rounds)
    return Timings(batches, seconds)


def speed(timings: Timings, name: str, base: str) -> Speed:
    """How fast *name* is, also compared with *base*, round by round."""
    mine, other = timings.seconds[name], timings.seconds[base]
    ratios = mine / other
    overall = np.exp(np.log(ratios).mean(axis=1))
    low, high = interval_of_median(overall)
    by_size = dict(zip(timings.batches, np.median(ratios, axis=0).tolist(), strict=True))
    us = dict(zip(timings.batches, (np.median(mine, axis=0) * 1e6).tolist(), strict=True))
    median = float(np.median(overall))
    return Speed(us_per_row=us, ratio=by_size, overall=median, low=low, high=high)


def interval_of_median(values: Floats64) -> tuple[float, float]:
    """Where the median of what *values* (N,) are drawn from lies, with 95 % confidence.

    Between two of the sorted values, by the sign test: no distribution is assumed (Conover,
    *Practical Nonparametric Statistics*, 3rd ed., 3.2). For N below 6: all of them.
    """
    ordered = np.sort(values)
    rank = int((len(ordered) - _SIGN_TEST_Z * np.sqrt(len(ordered))) / 2)
    at = max(rank - 1, 0)
    return float(ordered[at]), float(ordered[len(ordered) - 1 - at])


def _block(rows: Floats32, size: int) -> Floats32:
    """*size* rows; those there are again and again where they do not suffice."""
    return np.ascontiguousarray(np.resize(rows, (size, rows.shape[1])))


def _repeats(run: Run, block: Floats32, clock: Callable[[], float]) -> int:
    run(block)
    once = _spent(run, block, 3, clock) / 3
    return max(1, round(_SAMPLE_S / max(once, 1e-7)))


def _spent(run: Run, block: Floats32, repeat: int, clock: Callable[[], float]) -> float:
    before = clock()
    for _ in range(repeat):
        run(block)
    return clock() - before


@contextmanager
def _without_collections() -> Iterator[None]:
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
