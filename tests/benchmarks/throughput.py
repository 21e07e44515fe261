"""One run of a peer under load: its time, its CPU time, and whether it was right."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from tests.benchmarks.session import RUN_TIMEOUT_S, Bench, Commands, Session, session
from tests.benchmarks.workload import Workload

_SETTLE_S = 1.0
_MISSING_S = 20.0
"""When nothing has come for so long, what is missing is lost."""
_PATIENCE = 5
"""A run may take so many times as long as was expected."""


@dataclass(frozen=True, slots=True)
class Run:
    """What was measured in one run."""

    events: int
    seconds: float
    cpu_s: float
    broker_cpu_s: float
    rss_mb: float
    duplicates: int

    @property
    def events_per_s(self) -> float:
        """Throughput, first publish to last output."""
        return self.events / self.seconds

    @property
    def cpu_us(self) -> float:
        """CPU time of the peer for an event, in microseconds."""
        return self.cpu_s / self.events * 1e6

    @property
    def broker_cpu_us(self) -> float:
        """CPU time of the broker for an event, in microseconds."""
        return self.broker_cpu_s / self.events * 1e6


async def measured(peer: Session, rate: float) -> Run:
    """The peer under load, once it is warm and does *rate* events a second. Raises Wrong."""
    per_round = peer.workload.load.per_round()
    batches = max(1, round(rate * peer.bench.target_s / per_round))
    peer.workload.load.slices(peer.published, peer.published + batches)  # built in advance
    await peer.outputs.settled(_SETTLE_S)
    cpu_s, broker_cpu_s = peer.processes.cpu_s(), peer.bench.broker.cpu_s()
    began_at = time.time()
    await peer.send(batches, _PATIENCE * peer.bench.target_s + 30)
    spent_s, broker_spent_s = peer.processes.cpu_s(), peer.bench.broker.cpu_s()
    rss_mb = peer.processes.rss_mb()
    reader = peer.reader()
    while not await reader.complete():  # some were written twice: the count came too soon
        await reader.more(_MISSING_S)
        spent_s, broker_spent_s = peer.processes.cpu_s(), peer.bench.broker.cpu_s()
    return Run(
        events=batches * per_round, seconds=reader.last_ms / 1000 - began_at,
        cpu_s=spent_s - cpu_s, broker_cpu_s=broker_spent_s - broker_cpu_s, rss_mb=rss_mb,
        duplicates=reader.tally.duplicates(),
    )  # fmt: skip


async def throughput(
    bench: Bench, workload: Workload, label: str, commands: Commands, rate: float | None
) -> Run:
    """One run; *rate* is what is known of the peer from an earlier one.

    Raises PeerEnded, Late, Wrong and TimeoutError.
    """
    async with (
        asyncio.timeout(RUN_TIMEOUT_S),
        session(bench, workload, label, commands) as peer,
    ):
        warm = await peer.warmed_up(rate)
        return await measured(peer, rate or warm)
