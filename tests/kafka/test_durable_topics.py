"""Topics on a cluster: who makes them, and that they outlive a broker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from agents.broker.pipeline_topics import ensure_shadow_topic, ensure_topics, topic_names
from agents.broker.topic_settings import retention_findings
from tests.integration.harness import Trained, renamed
from tests.kafka_nodes import cluster_of_three
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

CARD_FRAUD = load_pipeline(find_pipeline("card-fraud")).pipeline
AS_SHIPPED = """
min.insync.replicas=1
auto.create.topics.enable=true
"""
"""As Kafka ships them, whatever deploy/kafka/cluster.properties says."""


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerSettings]:
    with cluster_of_three(tmp_path_factory.mktemp("three"), AS_SHIPPED) as cluster:
        yield cluster.settings


def topology(name: str) -> Topology:
    return Topology.of(CARD_FRAUD.model_copy(update={"pipeline": name}))


async def replicas_and_copies(broker: BrokerSettings, topics: tuple[str, ...]) -> set[object]:
    """Of each topic how many replicas it has, and how many have what is written."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.addresses)
    await admin.start()
    try:
        described = await admin.describe_topics(list(topics))
        replicas = {each["topic"]: len(each["partitions"][0]["replicas"]) for each in described}
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
        copies = {
            name: value
            for response in await admin.describe_configs(asked)
            for _, _, _, topic, configs in response.resources
            for key, value, *_ in configs
            if key == "min.insync.replicas"
            for name in [topic]
        }
    finally:
        await admin.close()
    return {(replicas[topic], copies[topic]) for topic in topics}


async def test_topics_have_the_clusters_replicas_and_two_of_three_have_what_is_written(
    three: BrokerSettings,
) -> None:
    by_default, asked = topology("by-default"), topology("asked")
    assert set(await ensure_topics(three, by_default)) == set(by_default.all)
    await ensure_topics(three, asked, replication=1)
    await ensure_shadow_topic(three, by_default, "risk-forest")
    shadowed = (*by_default.all, by_default.shadow("risk-forest"))
    assert await replicas_and_copies(three, shadowed) == {(3, "2")}
    assert await replicas_and_copies(three, asked.all) == {(1, "1")}


@pytest.mark.parametrize("command", ["run", "publish"])
async def test_a_missing_topic_is_said_and_neither_a_command_nor_the_broker_makes_it(
    three: BrokerSettings, command: str, trained: Trained, tmp_path: Path
) -> None:
    own = renamed(trained, tmp_path)
    (data := tmp_path / "events.jsonl").write_text("{}\n")
    words = [command, str(own.file.path), *([str(data)] if command == "publish" else [])]
    done = subprocess.run(
        [sys.executable, "-m", "agents", *words],
        env={**os.environ, "ANABRANCH_HOME": str(own.home), "ANABRANCH_BROKER": three.broker},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    topics = Topology.of(own.pipeline)
    assert done.returncode == 1
    missing = f"error: topic {topics.events} is missing: run `anabranch topics PIPELINE --create`"
    assert missing in done.stderr
    assert await topic_names(three, topics.all) == set()


async def test_topics_are_kept_as_long_as_windows_look_back_and_a_shorter_one_is_said(
    three: BrokerSettings, trained: Trained, tmp_path: Path
) -> None:
    own = renamed(trained, tmp_path)
    topics = Topology.of(own.pipeline)
    await ensure_topics(three, topics)
    assert await retention_findings(three, topics) == []
    admin = AIOKafkaAdminClient(bootstrap_servers=three.addresses)
    await admin.start()
    try:
        week = ConfigResource(
            ConfigResourceType.TOPIC, topics.events, configs={"retention.ms": "604800000"}
        )
        await admin.alter_configs([week])
    finally:
        await admin.close()
    done = subprocess.run(
        [sys.executable, "-m", "agents", "topics", str(own.file.path), "--create"],
        env={**os.environ, "ANABRANCH_BROKER": three.broker, "COLUMNS": "80"},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    said = done.stderr.replace("\n", " ")
    assert f"warning: topic {topics.events} keeps records for 7 d" in said
    assert said.count("warning:") == 1
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()[1:]]
    kept = {topic: keeps.strip() for topic, _, keeps in rows}
    assert kept[topics.events] == "7 d"
    assert kept[topics.decisions] == "37 d"
    assert kept[topics.control] == "newest of each key"
    with subprocess.Popen(
        [sys.executable, "-m", "agents", "run", str(own.file.path), "--component", "features"],
        env={**os.environ, "ANABRANCH_HOME": str(own.home), "ANABRANCH_BROKER": three.broker,
             "COLUMNS": "500"},
        stderr=subprocess.PIPE, text=True,
    ) as worker:  # fmt: skip
        assert worker.stderr is not None
        warning = next(line for line in worker.stderr if "keeps records for 7 d" in line)
        worker.terminate()
        worker.communicate(timeout=60)
    assert topics.events in warning
