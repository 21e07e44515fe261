"""W1 and W2: all peers under load, interleaved round by round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aiokafka.errors import KafkaError

from tests.benchmarks import peer_commands
from tests.benchmarks.broker import Late
from tests.benchmarks.check import Wrong
from tests.benchmarks.processes import Command, PeerEnded
from tests.benchmarks.session import Bench, Commands
from tests.benchmarks.throughput import Run, throughput
from tests.benchmarks.workload import Workload

TROUBLE = (PeerEnded, Late, Wrong, TimeoutError, KafkaError)


@dataclass(slots=True)
class Entry:
    """What is known of a peer in a workload."""

    peer: str
    runs: list[Run] = field(default_factory=list)
    trouble: str | None = None
    """Why it has no (further) runs: it does not run, or it is wrong."""

    @property
    def rate(self) -> float | None:
        """Events a second in the last run."""
        return self.runs[-1].events_per_s if self.runs else None


def commands_of(peer: str) -> Commands:
    """The process of *peer*, or the two."""

    def commands(run: peer_commands.Run) -> list[Command]:
        return [peer_commands.command(peer, run)] * (2 if peer == peer_commands.TWO else 1)

    return commands


def label_of(peer: str) -> str:
    """The peer's name; without its executable, if it has one of its own."""
    return peer.partition("=")[0]


def said(trouble: BaseException) -> str:
    """Why a peer has no figures, in a line."""
    if isinstance(trouble, Wrong):
        return f"wrong: {trouble}"
    if isinstance(trouble, TimeoutError):
        return "the run took longer than it may"
    return str(trouble)


def contest(
    bench: Bench,
    workload: Workload,
    peers: Sequence[str],
    repeats: int,
    advance: Callable[[str], None],
) -> list[Entry]:
    """*repeats* rounds, each of one run of every peer, which takes its turn to be the first.

    A peer that does not run, or is wrong, is not started again. `advance` is told of each run.
    """
    entries = {peer: Entry(label_of(peer)) for peer in peers}
    for number in range(repeats):
        first = number % len(peers)
        for peer in [*peers[first:], *peers[:first]]:
            entry = entries[peer]
            if entry.trouble is None:
                _run(bench, workload, peer, entry)
            advance(f"{workload.title}: {entry.peer} {_told(entry)}")
    return list(entries.values())


def _run(bench: Bench, workload: Workload, peer: str, entry: Entry) -> None:
    try:
        entry.runs.append(
            asyncio.run(throughput(bench, workload, entry.peer, commands_of(peer), entry.rate))
        )
    except TROUBLE as exc:
        entry.trouble = said(exc)


def _told(entry: Entry) -> str:
    return entry.trouble or f"{entry.runs[-1].events_per_s:,.0f} events/s"
