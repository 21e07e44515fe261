"""The cycle of `anabranch plan` from measured latencies, and how far its forecast is from them.

    make bench ARGS="--only w3 --out .bench"
    make bench ARGS="--only w3 --rates 300 2500 --peers anabranch --out .bench-more"
    python -m tests.benchmarks.calibrating .bench/results.json .bench-more/results.json

The first file is fitted: the lengths of a cycle to its medians, the machine's pauses to its 99th
percentiles, each by least squares of relative errors. The other files are forecast from that alone:
they are the test of the model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from scipy.optimize import least_squares

from agents.capacity.costs import Cycle, unit_costs
from agents.capacity.queueing import waiting_time
from tests.benchmarks.peer_commands import ANABRANCH

PARTITIONS = 4

Latencies = Mapping[float, Mapping[str, float]]
"""Events a second → percentile → milliseconds."""


def latencies(results: Path, peer: str = ANABRANCH) -> Latencies:
    """What W3 has measured of *peer*: medians of its runs."""
    content = json.loads(results.read_text())["latencies"]
    return {
        each["rate"]: {name: median(run[name] for run in each["runs"]) for name in each["runs"][0]}
        for each in content
        if each["peer"] == peer and each["runs"]
    }


def fitted(measured: Latencies, event_us: float) -> Cycle:
    """The cycle that fits all of *measured* best, at *event_us* an event."""

    def with_lengths(lengths: Sequence[float]) -> Cycle:
        base_ms, partition_ms = map(float, lengths)
        return Cycle(
            base_ms=base_ms, partition_ms=partition_ms, event_us=event_us, jitter_ms=0,
            measured="here",
        )  # fmt: skip

    def with_pauses(pauses: Sequence[float]) -> Cycle:
        jitter_ms, jitter_event_us = map(float, pauses)
        changes = {"jitter_ms": jitter_ms, "jitter_event_us": jitter_event_us}
        return cycle.model_copy(update=changes)

    cycle = with_lengths(_least(lambda each: _errors(with_lengths(each), measured, "p50"), [4, 1]))
    return with_pauses(_least(lambda each: _errors(with_pauses(each), measured, "p99"), [5, 100]))


def _least(errors: Callable[[Sequence[float]], list[float]], start: list[float]) -> list[float]:
    found: list[float] = least_squares(errors, start, bounds=(0.01, 1e4)).x.tolist()
    return found


def _errors(cycle: Cycle, measured: Latencies, name: str) -> list[float]:
    """How far forecasts are from what was measured, as shares of that."""
    return [forecast(cycle, rate)[name] / ms[name] - 1 for rate, ms in measured.items()]


def forecast(cycle: Cycle, rate: float) -> dict[str, float]:
    """Percentile → milliseconds, of everything in one process."""
    found = waiting_time([cycle], [rate], PARTITIONS)
    return {"p50": found.p50_ms, "p99": found.p99_ms}


def main() -> None:
    """Print the cycle, and each forecast beside what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+", help="results.json of make bench")
    parser.add_argument("--peer", default=ANABRANCH, help="anabranch, or anabranch-fused")
    given = parser.parse_args()
    first, *others = (latencies(path, given.peer) for path in given.results)
    cycle = fitted(first, unit_costs().together.event_us)
    print(f"base {cycle.base_ms:.2f} ms, partition {cycle.partition_ms:.2f} ms, jitter "
          f"{cycle.jitter_ms:.1f} ms and {cycle.jitter_event_us:.0f} µs an event")  # fmt: skip
    for said, measured in (
        ("fitted", first),
        *(("not seen by the fit", other) for other in others),
    ):
        for rate, ms in measured.items():
            for name, value in forecast(cycle, rate).items():
                off = value / ms[name] - 1
                print(f"{rate:6,.0f}/s {name} {ms[name]:5.1f} ms, forecast {value:5.1f} "
                      f"({off:+.0%}, {said})")  # fmt: skip


if __name__ == "__main__":
    main()
