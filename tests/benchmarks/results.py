"""All that was measured, and its file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.contest import Entry
from tests.benchmarks.micro import ratios as micro_ratios
from tests.benchmarks.peer_commands import ANABRANCH, RAW
from tests.benchmarks.w3 import Latency
from tests.benchmarks.w4 import Memory, Point
from tests.benchmarks.w5 import Start, Weight


@dataclass(slots=True)
class Results:
    """Everything that was measured so far."""

    machine: dict[str, object]
    settings: dict[str, object]
    contests: dict[str, list[Entry]] = field(default_factory=dict)
    """By the workload's title."""
    latencies: list[Latency] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    memory: Memory | None = None
    starts: list[Start] = field(default_factory=list)
    weights: list[Weight] = field(default_factory=list)
    micro: dict[str, dict[int, float]] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write all as JSON: also what a run's figures lead to."""
        path.write_text(json.dumps(_with_rates(asdict(self)), indent=1) + "\n")

    def ratios(self) -> dict[str, float]:
        """What may be compared with another machine's: anabranch by the raw peer, and micro."""
        found = micro_ratios(self.micro) if self.micro else {}
        for title, entries in self.contests.items():
            runs = {entry.peer: entry.runs for entry in entries if entry.runs}
            if ANABRANCH not in runs or RAW not in runs:
                continue
            ours, raw = runs[ANABRANCH], runs[RAW]
            found[f"{title}: events/s, {ANABRANCH} / {RAW}"] = median(
                run.events_per_s for run in ours
            ) / median(run.events_per_s for run in raw)
            found[f"{title}: CPU, {ANABRANCH} / {RAW}"] = median(
                run.cpu_us for run in ours
            ) / median(run.cpu_us for run in raw)
        return found


def _with_rates(content: Any) -> Any:
    """*content* with events a second and CPU time an event beside each run's counts."""
    if isinstance(content, list):
        return [_with_rates(item) for item in content]
    if not isinstance(content, dict):
        return content
    made = {name: _with_rates(value) for name, value in content.items()}
    if made.keys() >= {"events", "seconds", "cpu_s", "broker_cpu_s"}:
        made["events_per_s"] = made["events"] / made["seconds"]
        made["cpu_us"] = made["cpu_s"] / made["events"] * 1e6
        made["broker_cpu_us"] = made["broker_cpu_s"] / made["events"] * 1e6
    return made
