"""Workers with names are replaced one after the other, as a StatefulSet does it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.protocol.group import MemberAssignment

from tests.integration.harness import (
    PATIENCE_S,
    Trained,
    decided,
    decisions_of,
    publish,
    settled,
    simulated,
    stopped,
)
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

NAMES = ("worker-0", "worker-1")
EVENTS, RATE = 24_000, 800
Members = dict[str, tuple[str, frozenset[int]]]
"""Name → the member's id, which is another one after a restart, and its partitions."""
Groups = dict[str, Members]


def started(own: Trained, broker: BrokerSettings, name: str) -> subprocess.Popen[bytes]:
    """A worker with all components, by that name in every group."""
    environment = {
        "ANABRANCH_HOME": str(own.home), "ANABRANCH_BROKER": broker.broker,
        "ANABRANCH_INSTANCE_ID": name, "ANABRANCH_COMMIT_INTERVAL_S": "0.2",
        "ANABRANCH_CREATE_TOPICS": "true",
    }  # fmt: skip
    words = [sys.executable, "-m", "agents", "run", str(own.file.path)]
    return subprocess.Popen(words, env={**os.environ, **environment})


async def members(broker: BrokerSettings, group: str) -> Members:
    """Who is in a consumer group; nobody while it rebalances."""
    client = AIOKafkaAdminClient(bootstrap_servers=broker.broker)
    await client.start()
    try:
        (described,) = await client.describe_consumer_groups([group])
        ((_, _, state, _, _, found, *_),) = described.groups
    except GroupCoordinatorNotAvailableError:
        return {}  # a broker makes the topic of its groups when the first one asks for it
    finally:
        await client.close()
    if state != "Stable":
        return {}
    return {
        member[0][:-37]: (  # the broker makes it of the name, a dash and a UUID
            member[0],
            frozenset(at for _, tps in MemberAssignment.decode(member[4]).assignment for at in tps),
        )
        for member in found
    }


async def stable(broker: BrokerSettings, groups: list[str], gone: Mapping[str, str]) -> Groups:
    """The groups once both names are in them, with other ids than those *gone*."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = {group: await members(broker, group) for group in groups}
        if all(
            set(of) == set(NAMES) and not {who for who, _ in of.values()} & set(gone.values())
            for of in found.values()
        ):
            return found
        assert time.monotonic() < deadline, f"not stable: {found}"
        await asyncio.sleep(0.3)


def owned(groups: Groups) -> dict[str, dict[str, frozenset[int]]]:
    """Group → name → partitions."""
    return {
        group: {name: partitions for name, (_, partitions) in of.items()}
        for group, of in groups.items()
    }


async def test_workers_that_are_replaced_by_name_keep_their_partitions_and_lose_nothing(
    own: Trained, broker: BrokerSettings
) -> None:
    topology = Topology.of(own.pipeline)
    groups = [topology.group(name) for name in ("features", "terminals", "weigh")]
    running = {name: started(own, broker, name) for name in NAMES}
    try:
        before = await stable(broker, groups, {})
        publishing = asyncio.create_task(
            publish(broker, own.pipeline, simulated(own.pipeline, EVENTS), RATE)
        )
        await decided(broker, own.pipeline, EVENTS // 20)
        for name in NAMES:
            gone = {group: of[name][0] for group, of in (await stable(broker, groups, {})).items()}
            assert await asyncio.to_thread(stopped, running[name], signal.SIGTERM) == 0
            waiting = {group: await members(broker, group) for group in groups}
            assert owned(waiting) == owned(before), "nobody takes what waits for its owner"
            running[name] = started(own, broker, name)
            after = await stable(broker, groups, gone)
            assert owned(after) == owned(before)
        await publishing
        audit = await settled(broker, own.pipeline, EVENTS)
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    assert (audit.total.lost, audit.total.duplicated, audit.total.dead) == (0, 0, 0)
    assert len(await decisions_of(broker, own.pipeline)) == EVENTS
