"""The parts of the benchmark, one after the other on one broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.benchmarks import micro, w3, w4, w5, workload
from tests.benchmarks.contest import TROUBLE, commands_of, contest, said
from tests.benchmarks.peer_commands import ANABRANCH, FUSED
from tests.benchmarks.results import Results
from tests.benchmarks.session import Bench

PARTS = ("w1", "w2", "w3", "w4", "w5", "micro")
_STARTS = 5

Advance = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be measured."""

    parts: Sequence[str]
    peers: Sequence[str]
    repeats: int
    target_s: float
    warm_s: float
    memory_minutes: float
    rates: Sequence[float] = w3.RATES


class Benchmark:
    """Measures one part after the other and keeps what it has, whatever comes after."""

    def __init__(
        self, bench: Bench, options: Options, results: Results, file: Path, console: Console
    ) -> None:
        """What was measured so far is in *results*, and in *file*."""
        self._bench, self._options, self._results = bench, options, results
        self._file, self._console = file, console
        self._cards = workload.card_fraud(bench.files)
        self._steps = {
            "w1": self._w1, "w2": self._w2, "w3": self._w3, "w4": self._w4, "w5": self._w5,
            "micro": self._micro,
        }  # fmt: skip

    def run(self) -> None:
        """All parts."""
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TextColumn("{task.description}"))  # fmt: skip
        with Progress(*columns, console=self._console) as progress:
            for part in self._options.parts:
                task = progress.add_task(part, total=self._total(part))

                def advance(told: str, task: object = task) -> None:
                    progress.update(task, advance=1)  # type: ignore[arg-type]  # a TaskID
                    progress.console.print(told, markup=False, highlight=False, soft_wrap=True)

                self._steps[part](advance)
                self._results.write(self._file)

    def _total(self, part: str) -> int:
        peers, repeats = len(self._options.peers), self._options.repeats
        growth = len(list(w4.cases())) * repeats
        return {
            "w1": peers * repeats, "w2": 2 * len(self._of_one_stage) * repeats,
            "w3": len(self._rated) * repeats,
            "w4": growth + 1, "w5": 2 * min(repeats, _STARTS) + 1, "micro": len(micro.ROWS),
        }[part]  # fmt: skip

    @property
    def _of_one_stage(self) -> list[str]:
        return [peer for peer in self._options.peers if peer != FUSED]

    @property
    def _rated(self) -> list[tuple[str, float]]:
        peers = sorted(self._options.peers, key=lambda peer: peer != ANABRANCH)
        return w3.wanted(peers, self._options.rates)

    def _contest(self, load: workload.Workload, peers: Sequence[str], advance: Advance) -> None:
        found = contest(self._bench, load, peers, self._options.repeats, advance)
        self._results.contests[load.title] = found

    def _w1(self, advance: Advance) -> None:
        self._contest(self._cards, self._options.peers, advance)

    def _w2(self, advance: Advance) -> None:
        self._contest(workload.crayfish_text(self._bench.files), self._of_one_stage, advance)
        self._contest(workload.crayfish_tensor(self._bench.files), self._of_one_stage, advance)

    def _w3(self, advance: Advance) -> None:
        self._results.latencies = w3.latencies(
            self._bench, self._cards, self._rated, self._options.repeats, advance
        )

    def _w4(self, advance: Advance) -> None:
        repeats, minutes = self._options.repeats, self._options.memory_minutes
        self._results.points = w4.points(self._bench, repeats, advance)
        if not minutes:
            return advance("W4 memory: not asked for")
        found = w4.memory(self._bench, self._cards, minutes, commands_of(ANABRANCH))
        self._results.memory = found
        return advance(f"W4 memory: {found.trouble or f'{found.mb_per_hour:+.1f} MB an hour'}")

    def _w5(self, advance: Advance) -> None:
        starts = min(self._options.repeats, _STARTS)
        self._results.starts = w5.starts(self._bench, self._cards, starts, advance)
        try:
            self._results.weights = w5.weights(self._bench, self._cards)
        except TROUBLE as exc:
            return advance(f"W5 memory: {said(exc)}")
        return advance("W5 memory: measured")

    def _micro(self, advance: Advance) -> None:
        self._results.micro = micro.measured(advance)
