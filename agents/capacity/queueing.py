"""How long events wait, as a queue in front of a server that takes all that is there.

A worker is a gated server with batch service: what comes during a cycle waits for the next one, and
leaves at its end. Cycle times follow from their own length: T = V(a) + λ·T·s, so T = V / (1 - λ·s),
with V the time of a cycle besides its events, a the partitions that something came on, s the time
of an event (Takagi, *Analysis of Polling Systems*, 1986, the gated vacation model with constant
vacations). An event comes at any point of a cycle, so it takes between T and 2·T; one that comes to
an idle worker takes T. Hops add up, as if independent (Kleinrock); their tail is that of a normal
distribution with their variances. Beside it are the machine's own pauses, which are measured: they
grow with what a cycle holds, because what comes in a pause has to be caught up with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt

from agents.capacity.costs import Cycle

_ROUNDS = 200
_P99 = 2.326
"""Of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class WaitingTime:
    """How long events take, in milliseconds."""

    p50_ms: float
    p99_ms: float


def cycle_ms(cycle: Cycle, events_per_s: float, partitions: int) -> float:
    """How long a cycle is at a rate, spread over *partitions*; inf when it never ends.

    >>> idle = Cycle(base_ms=5, partition_ms=0, event_us=10, jitter_ms=0, measured="")
    >>> cycle_ms(idle, 0, 4), cycle_ms(idle, 50_000, 4), cycle_ms(idle, 100_000, 4)
    (5.0, 10.0, inf)
    """
    busy = events_per_s * cycle.event_us / 1e6
    if busy >= 1:
        return inf
    length = cycle.base_ms
    for _ in range(_ROUNDS):
        came = max(1.0, events_per_s * length / 1000)
        active = partitions * (1 - (1 - 1 / partitions) ** came)
        following = (cycle.base_ms + cycle.partition_ms * (active - 1)) / (1 - busy)
        if abs(following - length) < 1e-9:
            break
        length = following
    return length


def waiting_time(cycles: Sequence[Cycle], rates: Sequence[float], partitions: int) -> WaitingTime:
    """Of events that pass a worker after the other; *rates* are each worker's events a second.

    A worker that is idle when an event comes (the share 1 - λ·T of the time, at low rates) starts
    at once; otherwise what is left of a cycle comes before.
    """
    hops = list(zip(cycles, rates, strict=True))
    lengths = [cycle_ms(cycle, rate, partitions) for cycle, rate in hops]
    if inf in lengths:
        return WaitingTime(inf, inf)
    busy = [min(1.0, rate * length / 1000) for rate, length in zip(rates, lengths, strict=True)]
    middle = sum(length * (1 + share / 2) for length, share in zip(lengths, busy, strict=True))
    spread = sqrt(sum(length**2 / 12 for length in lengths))
    pauses = (
        cycle.jitter_ms + cycle.jitter_event_us / 1000 * rate * length / 1000
        for (cycle, rate), length in zip(hops, lengths, strict=True)
    )
    return WaitingTime(middle, middle + _P99 * spread + max(pauses))
