"""W3: how long an event waits for its decision, at a steady rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from threading import Event as Flag

import numpy as np
from numpy.typing import NDArray

from agents.publish.publisher import partition_of
from tests.benchmarks.card_events import CardEvents, ExpectedDecisions, Reference
from tests.benchmarks.check import Tally
from tests.benchmarks.contest import TROUBLE, commands_of, label_of, said
from tests.benchmarks.decision_check import DecisionCheck
from tests.benchmarks.figures import percentiles
from tests.benchmarks.load import Event
from tests.benchmarks.pacing import NotPublished, publish_paced
from tests.benchmarks.peer_commands import FUSED
from tests.benchmarks.reader import Reader
from tests.benchmarks.session import START_TIMEOUT_S, Bench, Session, session
from tests.benchmarks.workload import Workload

RATES = (100.0, 1000.0, 5000.0)
"""Events a second, for Anabranch."""
PEERS_RATE = 1000.0
SECONDS = 20.0
_WARM_S = 5.0
_SUSTAINED_S = 2.0
"""When even the quickest event of the last second waits longer, the peer does not keep up."""
_MISSING_S = 5.0
"""Without an output for so long after the last event, what is missing is lost."""


class NotSustained(Exception):
    """A peer falls further and further behind: its latencies say how long that went on."""

    def __init__(self, rate: float, behind_s: float) -> None:
        super().__init__(
            f"does not keep up with {rate:,.0f} events/s: {behind_s:.1f} s behind in the end"
        )


@dataclass(slots=True)
class Latency:
    """How long a peer took, in milliseconds, by percentile: medians of its runs."""

    peer: str
    rate: float
    runs: list[dict[str, float]] = field(default_factory=list)
    """Percentile → milliseconds, of each run."""
    trouble: str | None = None
    """Why the last run that came to nothing did."""

    @property
    def ms(self) -> dict[str, float]:
        """Empty when no run came to anything."""
        names = self.runs[0] if self.runs else ()
        return {name: median(run[name] for run in self.runs) for name in names}


@dataclass(frozen=True, slots=True)
class _Stream:
    """Events in the order in which they are published, and what has to come out."""

    events: Sequence[Event]
    lanes: Sequence[Sequence[int]]
    """Offset → number of the event, by partition."""
    expected: ExpectedDecisions

    @classmethod
    def of(cls, reference: Reference, count: int, partitions: int) -> _Stream:
        """The first *count* events."""
        cards = CardEvents()
        events = list(islice(cards.events(), count))
        lanes: list[list[int]] = [[] for _ in range(partitions)]
        for event in events:
            lanes[partition_of(event.key, partitions)].append(event.number)
        return cls(events, lanes, reference.expected(cards))


def latencies(
    bench: Bench, workload: Workload, of: Sequence[tuple[str, float]], repeats: int,
    advance: Callable[[str], None],
) -> list[Latency]:  # fmt: skip
    """What peers take at rates, so many times in turns."""
    found = {(peer, rate): Latency(label_of(peer), rate) for peer, rate in of}
    for _ in range(repeats):
        for (peer, rate), latency in found.items():
            try:
                ms = percentiles(asyncio.run(_latencies(bench, workload, peer, rate)))
            except (*TROUBLE, NotPublished, NotSustained) as exc:
                latency.trouble = told = said(exc)
            else:
                latency.runs.append(ms)
                told = f"p50 {ms['p50']:.1f} ms, p99 {ms['p99']:.1f} ms"
            advance(f"W3 latency: {latency.peer} at {rate:,.0f}/s {told}")
    return list(found.values())


def wanted(peers: Sequence[str], rates: Sequence[float]) -> list[tuple[str, float]]:
    """Anabranch, or whoever is first, and fused Anabranch at all *rates*; the others at one."""
    return [
        (peer, rate)
        for peer in peers
        for rate in (rates if peer in (peers[0], FUSED) else (PEERS_RATE,))
    ]


async def _latencies(
    bench: Bench, workload: Workload, peer: str, rate: float
) -> NDArray[np.float64]:
    warm, count = round(rate * _WARM_S), round(rate * (_WARM_S + SECONDS))
    stream = _Stream.of(Reference(bench.files.exported), count, workload.partitions)
    async with (
        asyncio.timeout(START_TIMEOUT_S + 60),
        session(bench, workload, label_of(peer), commands_of(peer), own_times=True) as running,
    ):
        first = workload.partitions  # so many events show that the peer has started
        await _publish(running, stream.events[:first], rate, time.time())
        await running.outputs.wait(first, START_TIMEOUT_S, running.processes.check)
        began_s = time.time() + 1
        await _publish(running, stream.events[first:], rate, began_s)
        reader = _reader(running, stream)
        while not await reader.complete():
            await reader.more(_MISSING_S)
    appended = np.array([reader.first_ms[number] for number in range(warm, count)], np.float64)
    due = began_s * 1000 + (np.arange(warm, count) - first) / rate * 1000
    waits = np.asarray(appended - due)
    if (behind_s := float(waits[-round(rate) :].min()) / 1000) > _SUSTAINED_S:
        raise NotSustained(rate, behind_s)
    return waits


async def _publish(running: Session, events: Sequence[Event], rate: float, start_s: float) -> None:
    stop = Flag()
    topic = f"{running.prefix}.{running.workload.topics[0]}"
    try:
        await asyncio.to_thread(
            publish_paced, running.bench.broker, topic, events, rate, start_s, stop
        )
    finally:
        stop.set()


def _reader(running: Session, stream: _Stream) -> Reader:
    check = DecisionCheck(
        stream.expected, f"{running.prefix}.events", lambda lane, at: stream.lanes[lane][at]
    )
    return Reader(running.outputs, check, Tally({event.number: 1 for event in stream.events}))
