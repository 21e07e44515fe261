"""Memory of workers while the largest events come, against what Kubernetes gives them.

One process for each component, which has all partitions to itself; everything else as it ships:
topics that take 16 MiB a record, 128 MiB in flight, heaps of the C library's own choice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen

import yaml

from agents.broker.pipeline_topics import ensure_topics
from tests.deploy.manifests import COMMITTED
from tests.integration.harness import (
    EVERYTHING,
    Trained,
    decided,
    publish_raw,
    simulated,
    worker_process,
    written,
)
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

LARGE = 14_900_000
"""The topics take 16 MiB; a dead letter repeats 15,000,000 bytes of its original."""
EACH = 4
"""Large events of each partition."""
SMALL = 200

Processes = Mapping[str, Popen[bytes]]


def limit_bytes(component: str) -> int:
    """The memory limit of its container."""
    path = COMMITTED / "base" / "workloads" / "components" / f"{component}.yaml"
    kinds = {each["kind"]: each for each in yaml.safe_load_all(path.read_text())}
    (container,) = kinds["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    text = container["resources"]["limits"]["memory"]
    return int(text[:-2]) * {"Mi": 2**20, "Gi": 2**30}[text[-2:]]


def peak_bytes(process: Popen[bytes]) -> int:
    """The most memory that it has had so far."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@contextmanager
def one_process_each(own: Trained, broker: BrokerSettings) -> Iterator[Processes]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(worker_process(own, broker, name)) for name in EVERYTHING}


def check_peaks(processes: Processes) -> None:
    peaks = {name: peak_bytes(process) for name, process in processes.items()}
    print({name: f"{peak / 2**20:.0f} MiB" for name, peak in peaks.items()})
    over = {name: peak for name, peak in peaks.items() if peak > limit_bytes(name)}
    assert not over, "over the limit of its container"


async def test_every_worker_stays_within_its_containers_memory_while_the_largest_events_come(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    await ensure_topics(broker, topology)
    events = [Record(b"k", event, int(time.time() * 1000))
              for _, event in simulated(own.pipeline, SMALL)]  # fmt: skip
    value = events[0].value or b""
    large = events[0]._replace(value=value + b" " * (LARGE - len(value)))
    for number in range(EACH):
        some = events[number::EACH]
        await asyncio.gather(*(
            publish_raw(broker, topology.events, partition, [large, *some])
            for partition in range(topology.partitions)
        ))  # fmt: skip
    count = EACH * topology.partitions
    with one_process_each(own, broker) as processes:
        await written(broker, topology.dead_letters, count // 2)
        check_peaks(processes)
        for process in processes.values():
            process.kill()
    with one_process_each(own, broker) as processes:  # what was in hand comes again, all at once
        await written(broker, topology.dead_letters, count)
        await decided(broker, own.pipeline, SMALL * topology.partitions)
        check_peaks(processes)
