"""Writes `before/`: a pipeline's home and topics, by the version that this is run with.

    git worktree add ../before COMMIT && cd ../before
    python /path/to/tests/upgrade/write.py /path/to/tests/upgrade/before

Everything comes from that version's own code: its workers, its commands, the harness of its tests.
"""

from __future__ import annotations

import asyncio
import json
import lzma
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))

from agents.broker.log_follower import follower, read_until
from agents.broker.pipeline_topics import ensure_topics
from models.simulators.card_fraud import simulate
from tests.integration.harness import (
    Trained,
    decided,
    publish_raw,
    settled,
    trained_small,
    worker_process,
)
from tests.integration.test_windows import publish_with_outcomes
from topics.kafka.batches import Record
from topics.kafka.embedded import EmbeddedBroker
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

EVENTS, INVALID = 1200, 8


def command(home: Path, broker: BrokerSettings, *words: str) -> None:
    """`anabranch` of this version, in *home*."""
    about = {"HOME": str(home), "BROKER": broker.broker, "EMBEDDED": "true"}
    subprocess.run(
        [sys.executable, "-m", "agents", *words], check=True,
        env={**os.environ, **{f"ANABRANCH_{name}": value for name, value in about.items()}},
    )  # fmt: skip


async def stream(trained: Trained, broker: BrokerSettings) -> None:
    """Events of all kinds, models that change in mid-stream, a worker that is killed."""
    topology, file = Topology.of(trained.pipeline), str(trained.file.path)
    await ensure_topics(broker, topology)
    labelled = list(islice(simulate(3, customers=12, terminals=16, radius=30.0), EVENTS))
    named = f"{trained.pipeline.name}/risk-linear"
    command(trained.home, broker, "train", file, "--component", "risk-linear",
            "--rows", "60000", "--seed", "1")  # fmt: skip
    publishing = asyncio.create_task(publish_with_outcomes(broker, trained.pipeline, labelled, 100))
    with worker_process(trained, broker):
        await decided(broker, trained.pipeline, EVENTS // 4)
        promote = ("models", "promote", f"{named}@2", "--reason", "a test")
        await asyncio.to_thread(command, trained.home, broker, *promote)
        canary = ("models", "canary", f"{named}@1", "--share", "30%")
        await asyncio.to_thread(command, trained.home, broker, *canary)
        await decided(broker, trained.pipeline, EVENTS // 2)
        invalid = [Record(b"nobody", b"%d: no event" % n, 0, []) for n in range(INVALID)]
        await publish_raw(broker, topology.events, 0, invalid)
    with worker_process(trained, broker):
        await publishing
        await settled(broker, trained.pipeline, EVENTS + INVALID)


async def written(broker: BrokerSettings, topology: Topology) -> list[str]:
    """All records of all topics, a line of JSON each."""
    lines = []
    for topic in (*topology.all, topology.shadow("risk-linear")):
        async with follower(broker, (topic,), topology.partitions, from_start=True) as consumer:
            ends = await consumer.end_offsets(sorted(consumer.assignment()))
            async for _, records in read_until(consumer, ends):
                lines += [json.dumps({
                    "topic": record.topic, "partition": record.partition, "offset": record.offset,
                    "timestamp": record.timestamp,
                    "key": _text(record.key), "value": _text(record.value),
                    "headers": [(name, _text(value)) for name, value in record.headers],
                }) for record in records]  # fmt: skip
    return lines


def _text(content: bytes | None) -> str | None:
    return None if content is None else b64encode(content).decode()


def main(folder: Path) -> None:
    """Write the folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ |= {"ANABRANCH_INSTANCE_ID": "before", "USER": "somebody", "LOGNAME": "somebody"}
    trained = trained_small("card-fraud", folder, rows=20_000, trees=2)
    with EmbeddedBroker() as embedded:
        broker = BrokerSettings(broker=embedded.address, embedded=True)
        asyncio.run(stream(trained, broker))
        lines = asyncio.run(written(broker, Topology.of(trained.pipeline)))
    with lzma.open(folder / "topics.jsonl.xz", "wt") as file:
        file.write("\n".join(lines))
    shutil.rmtree(folder / "reports")
    code = subprocess.run(
        ["git", "archive", "HEAD", "agents", "topics", "models"], capture_output=True, check=True
    )
    (folder / "code.tar.xz").write_bytes(lzma.compress(code.stdout, preset=9))
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    (folder / "COMMIT").write_text(commit.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
