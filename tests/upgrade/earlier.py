"""A pipeline's home, its topics and the code, as an earlier version has left them."""

from __future__ import annotations

import json
import lzma
import shutil
import tarfile
from base64 import b64decode
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

from models.registry.registry import Registry
from models.simulators import LabelledEvent
from models.simulators.card_fraud import simulate
from tests.integration.harness import Trained, publish_raw
from topics.kafka.batches import Headers, Record
from topics.pipeline.file import load_pipeline
from topics.settings import BrokerSettings

FOLDER = Path(__file__).with_name("before")
EVENTS, INVALID = 1200, 8
"""Of the events topic, all of them ended; see `write.py`."""


class Written(NamedTuple):
    """A record as it stands on a topic."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def written() -> Iterator[Written]:
    """All records of all topics, by topic and partition in the order of offsets."""
    with lzma.open(FOLDER / "topics.jsonl.xz", "rt") as file:
        lines = [json.loads(line) for line in file]
    for line in sorted(lines, key=lambda line: (line["topic"], line["partition"], line["offset"])):
        headers = [(name, _bytes(value) or b"") for name, value in line["headers"]]
        yield Written(
            line["topic"], line["partition"], line["offset"], line["timestamp"],
            _bytes(line["key"]), _bytes(line["value"]), headers,
        )  # fmt: skip


def events(count: int) -> list[LabelledEvent]:
    """The events that were published, and those that would have followed."""
    return list(islice(simulate(3, customers=12, terminals=16, radius=30.0), count))


def home(folder: Path) -> Trained:
    """The pipeline file and the registry, in *folder*."""
    shutil.copytree(FOLDER / "registry", folder / "registry")
    path = Path(shutil.copy(FOLDER / "card-fraud.yaml", folder))
    return Trained(folder, load_pipeline(path), Registry(folder / "registry"))


def code(folder: Path) -> Path:
    """Where the version's own code is, unpacked in *folder*."""
    with tarfile.open(FOLDER / "code.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


async def restore(broker: BrokerSettings) -> None:
    """Write all records again, each at the offset that it had."""
    for (topic, partition), group in groupby(written(), lambda each: (each.topic, each.partition)):
        records = list(group)
        assert [record.offset for record in records] == list(range(len(records)))
        await publish_raw(broker, topic, partition, [
            Record(record.key, record.value, record.timestamp, record.headers)
            for record in records
        ])  # fmt: skip


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)
