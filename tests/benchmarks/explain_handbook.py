"""Declined events of the handbook, explained: `python -m tests.benchmarks.explain_handbook`.

Apache Kafka in a process of its own. `anabranch evaluate` trains card-fraud, and streams the
handbook's transactions through it; then the newest declined ones are explained as `anabranch
explain` does, by the exact values, by shap's exact explainer and by LIME, and compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

from agents.explanations import (
    DecisionArchive,
    DecisionExplainer,
    Explanation,
    RecordedDecision,
    RecordedEvent,
    RegistryVersions,
    recorded_decision,
)
from agents.workers import TailReader
from models.explain import Library
from models.registry.registry import Registry
from tests.benchmarks import broker as benchmark_broker
from topics.pipeline import Topology, find_pipeline, load_pipeline
from topics.settings import BrokerSettings

_BESIDE = Path(__file__).parents[3] / "shared" / "data" / "handbook"
_METHODS: tuple[Library | None, ...] = (None, "shap", "lime")


async def declined(tail: TailReader, topology: Topology, most: int) -> list[RecordedDecision]:
    """The newest declined decisions, at most so many."""
    found = []
    for partition in range(topology.partitions):
        async with aclosing(tail.chunks(topology.decisions, partition, 0)) as chunks:
            async for records in chunks:
                found += [
                    each for each in map(recorded_decision, records)
                    if each is not None and each.decision.decision == "decline"
                ]  # fmt: skip
    return sorted(found, key=lambda each: each.decision.decided_at)[-most:]


async def compared(settings: BrokerSettings, registry: Registry, most: int) -> dict[str, object]:
    """What the methods say of one another."""
    file = load_pipeline(find_pipeline("card-fraud"))
    topology = Topology.of(file.pipeline)
    tail = TailReader(settings)
    await tail.start()
    try:
        archive = DecisionArchive(tail, topology)
        decisions = await declined(tail, topology, most)
        wanted = DecisionExplainer(file.pipeline, RegistryVersions(file, registry)).wanted
        events = [
            RecordedEvent(each.decision, await archive.outputs(each, wanted(each.decision)))
            for each in decisions
        ]
    finally:
        await tail.stop()
    explained: dict[Library | None, list[Explanation]] = {}
    seconds = {}
    for method in _METHODS:
        started = time.process_time()
        explainer = DecisionExplainer(
            file.pipeline, RegistryVersions(file, registry), library=method
        )
        explained[method] = [explainer.explained(each) for each in events]
        seconds[method or "exact"] = round(time.process_time() - started, 1)
    exact, by_shap, by_lime = (explained[method] for method in _METHODS)
    values = [[{part.group: part.value for part in each.groups} for each in some]
              for some in (exact, by_shap)]  # fmt: skip
    return {
        "declined": len(decisions),
        "furthest_from_additive": max(
            abs(each.base + sum(part.value for part in each.groups) - of.decision.score)
            for each, of in zip(exact, decisions, strict=True) if of.decision.score is not None
        ),
        "furthest_from_shap": max(
            abs(value - other[group])
            for one, other in zip(*values, strict=True) for group, value in one.items()
        ),
        "top_group_as_lime": sum(
            one.groups[0].group == other.groups[0].group
            for one, other in zip(exact, by_lime, strict=True)
        ),
        "cpu_s": seconds,
    }  # fmt: skip


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    place = Path(os.environ.get("ANABRANCH_HANDBOOK", _BESIDE))
    parser.add_argument("--data", type=Path, default=place, help="folder of the handbook")
    parser.add_argument("--declined", type=int, default=1000, help="events to explain")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        registry = Path(folder) / "registry"
        with benchmark_broker.running(Path(folder) / "kafka") as broker:
            subprocess.run(
                [sys.executable, "-m", "agents", "evaluate", "card-fraud", "--data", options.data,
                 "--registry", registry, "--broker", broker.address],
                check=True, stdout=sys.stderr,
            )  # fmt: skip
            settings = BrokerSettings(broker=broker.address)
            found = asyncio.run(compared(settings, Registry(registry), options.declined))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
