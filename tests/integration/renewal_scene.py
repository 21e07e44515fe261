"""A pipeline whose fraud is another than its models know, and trainers that renew its forest."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import orjson

from agents.broker import ensure_outcomes_topic
from agents.control.control_topic import ControlTopic
from agents.publish import publisher as publishing
from agents.renewal.renewal_ledger import RenewalLedger
from agents.renewal.renewal_log import RenewalLog
from models.simulators import SIMULATORS
from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    publish,
    publish_raw,
    renamed,
    with_section,
)
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.records import ControlState
from topics.records.outcome import outcome_fields, outcome_of
from topics.settings import BrokerSettings

FOREST = "risk-forest"
LARGE = 110.0
BEFORE, AFTER = 4000, 3000
"""Events before the renewal, and of the contest."""


def renewing(trained: Trained, home: Path, partitions: int = 4, **renew: object) -> Trained:
    """The pipeline, whose forest is renewed.

    Outcomes take an hour instead of seven days: with these a test's events would be no week's. What
    is fraud now changes more decisions than the default gate lets pass.
    """
    own = with_section(renamed(trained, home, partitions), "outcomes", {"delay": "1h"})
    return with_section(own, "renew", {"components": [FOREST], "gate": "dead <= 0", **renew})


def is_fraud(event: Mapping[str, Any]) -> bool:
    """What fraud has become: large amounts, about one event in ten."""
    return float(event["amount"]) > LARGE


async def happens(
    own: Trained, broker: BrokerSettings, start: int, count: int, later: timedelta = timedelta(0)
) -> None:
    """Events, so much *later* than simulated, and at once what came true of them."""
    labelled = [*islice(SIMULATORS["card-fraud"](7), start, start + count)]
    key, fields = own.pipeline.event.key, outcome_fields(own.pipeline)
    time_field = own.pipeline.event.time
    for each in labelled:
        at = datetime.fromisoformat(str(each.event[time_field])) + later
        each.event[time_field] = at.isoformat()
    events = [publishing.encoded(each.event, key) for each in labelled]
    await publish(broker, own.pipeline, events, 3000)
    topology = Topology.of(own.pipeline)
    await ensure_outcomes_topic(broker, topology)
    said = [outcome_of(fields, each.event, label=is_fraud(each.event)) for each in labelled]
    await publish_raw(
        broker, topology.outcomes, 1, [Record(b"", orjson.dumps(each), 5) for each in said]
    )


@contextmanager
def trainer_process(
    own: Trained, broker: BrokerSettings, *words: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`anabranch renew` as a process of its own; killed in the end if it still runs."""
    with TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "agents", "renew", str(own.file.path), *words],
            env={
                **os.environ,
                "ANABRANCH_HOME": str(own.home),
                "ANABRANCH_BROKER": broker.broker,
                "ANABRANCH_EMBEDDED": str(broker.embedded).lower(),
                "ANABRANCH_SESSION_TIMEOUT_S": "6",
            },
            stdout=said, stderr=said,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            said.seek(0)
            print(f"trainer {process.pid} ended with {process.returncode}:", said.read().decode())


async def until(renewals: RenewalLog, is_so: Any, process: subprocess.Popen[bytes]) -> None:
    """Read the log until *is_so* of its ledger; fails when the trainer has ended before."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so(renewals.ledger):
        assert process.poll() in (None, 0), "the trainer has ended"
        assert time.monotonic() < deadline, [*renewals.ledger]
        await renewals.more()


async def ledger_of(own: Trained, broker: BrokerSettings) -> RenewalLedger:
    async with RenewalLog(broker, Topology.of(own.pipeline)) as renewals:
        return renewals.ledger


async def control_of(own: Trained, broker: BrokerSettings) -> ControlState:
    async with ControlTopic(broker, Topology.of(own.pipeline)) as control:
        return control.state


async def ended(process: subprocess.Popen[bytes]) -> int:
    return await asyncio.to_thread(process.wait, PATIENCE_S)
