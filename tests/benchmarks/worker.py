"""Memory of each worker, one component per process, and the time to a first decision.

    python -m tests.benchmarks.worker

Needs a trained card-fraud pipeline (`anabranch train card-fraud`).
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import ExitStack

import psutil

from models.registry import Registry
from tests.integration.harness import Trained, decided, publish, simulated, worker_process
from topics.embedded import EmbeddedBroker
from topics.pipeline_file import find_pipeline, load_pipeline
from topics.settings import BrokerSettings, HomeSettings
from topics.topology import WEIGH

EVENTS = 50_000
RATE = 5_000.0


def first_decision_s() -> float:
    """From the start of `anabranch demo` to its end, for a single event."""
    began = time.monotonic()
    command = [sys.executable, "-m", "agents", "demo", "--headless", "--events", "1", "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


async def memory_mb(trained: Trained) -> dict[str, float]:
    """Resident memory of each component's process after EVENTS events, in MB."""
    names = [*(component.name for component in trained.pipeline.components), WEIGH]
    with EmbeddedBroker() as embedded:
        broker = BrokerSettings(broker=embedded.address, embedded=True)
        with ExitStack() as stack:
            processes = {
                name: stack.enter_context(worker_process(trained, broker, name)) for name in names
            }
            await publish(broker, trained.pipeline, simulated(trained.pipeline, EVENTS), RATE)
            await decided(broker, trained.pipeline, EVENTS)
            return {
                name: psutil.Process(process.pid).memory_info().rss / 1e6
                for name, process in processes.items()
            }


def main() -> None:
    """Print both."""
    home = HomeSettings()
    trained = Trained(
        home.home, load_pipeline(find_pipeline("card-fraud")), Registry(home.registry)
    )
    print(f"anabranch demo, start to first decision and end: {first_decision_s():.1f} s")
    for name, megabytes in asyncio.run(memory_mb(trained)).items():
        print(f"{name:<12} {megabytes:6.0f} MB")


if __name__ == "__main__":
    main()
