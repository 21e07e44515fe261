"""The cycle of `anabranch plan` from measured latencies, and how far its forecast is from them.

    python -m tests.benchmarks.calibrating .bench/results.json

The lengths of a cycle are fitted to the medians at the lowest and the highest rate of W3, and the
jitter to the 99th percentiles there, so that the larger of the two relative errors is as small as
can be. What lies between is forecast from these alone: that is the test of the model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import numpy as np
from scipy.optimize import least_squares

from agents.capacity.queueing import Wait, wait
from agents.capacity.unit_costs import Cycle, unit_costs
from tests.benchmarks.peer_commands import ANABRANCH

PARTITIONS = 4

Latencies = Mapping[float, Mapping[str, float]]
"""Events a second → percentile → milliseconds."""


def latencies(results: Path, peer: str = ANABRANCH) -> Latencies:
    """What W3 has measured of *peer*: medians of its runs."""
    found = json.loads(results.read_text())["latencies"]
    return {
        it["rate"]: {name: median(run[name] for run in it["runs"]) for name in it["runs"][0]}
        for it in found
        if it["peer"] == peer and it["runs"]
    }


def fitted(measured: Latencies, event_us: float) -> Cycle:
    """The cycle that fits the lowest and the highest rate of *measured*."""
    ends = [min(measured), max(measured)]

    def errors(lengths: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
        cycle = _cycle(float(lengths[0]), float(lengths[1]), event_us)
        return [forecast(cycle, rate).p50_ms / measured[rate]["p50"] - 1 for rate in ends]

    base_ms, partition_ms = least_squares(errors, [4.0, 1.0], bounds=([0.1, 0.0], [1e3, 1e3])).x
    cycle = _cycle(float(base_ms), float(partition_ms), event_us)
    least = [(forecast(cycle, rate).p99_ms, measured[rate]["p99"]) for rate in ends]
    # (m1 + j) / q1 - 1 = 1 - (m2 + j) / q2: as far above the one as below the other.
    jitter_ms = (2 - sum(m / q for m, q in least)) / sum(1 / q for _, q in least)
    return cycle.model_copy(update={"jitter_ms": max(0.0, jitter_ms)})


def _cycle(base_ms: float, partition_ms: float, event_us: float) -> Cycle:
    return Cycle(
        base_ms=base_ms, partition_ms=partition_ms, event_us=event_us, jitter_ms=0, measured="here"
    )


def forecast(cycle: Cycle, rate: float) -> Wait:
    """Of everything in one process."""
    return wait([cycle], [rate], PARTITIONS)


def main() -> None:
    """Print the cycle, and each forecast beside what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="results.json of make bench")
    parser.add_argument("--peer", default=ANABRANCH, help="anabranch, or anabranch-fused")
    given = parser.parse_args()
    measured = latencies(given.results, given.peer)
    cycle = fitted(measured, unit_costs().together.event_us)
    print(f"base {cycle.base_ms:.2f} ms, partition {cycle.partition_ms:.2f} ms, "
          f"jitter {cycle.jitter_ms:.1f} ms")  # fmt: skip
    for rate, ms in measured.items():
        found = forecast(cycle, rate)
        said = "fitted" if rate in (min(measured), max(measured)) else "not seen by the fit"
        for name, value in (("p50", found.p50_ms), ("p99", found.p99_ms)):
            off = value / ms[name] - 1
            print(f"{rate:6,.0f}/s {name} {ms[name]:5.1f} ms, forecast {value:5.1f} "
                  f"({off:+.0%}, {said})")  # fmt: skip


if __name__ == "__main__":
    main()
