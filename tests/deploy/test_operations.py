"""The operations page: its commands exist, and what it says was tried is tried here."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from agents.cli import app
from models.registry.registry import Registry
from tests.deploy.manifests import ROOT
from tests.integration.harness import (
    Trained,
    decisions_of,
    pipeline_running,
    publish,
    publish_raw,
    records_of,
    renamed,
    settled,
    simulated,
)
from tests.integration.test_dead_letters import run
from topics.kafka.batches import Record
from topics.kafka.embedded import EmbeddedBroker
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

PAGES = (ROOT / "deploy" / "operations.md", ROOT / "deploy" / "kubernetes" / "README.md")


def commands() -> Iterator[str]:
    """Every `anabranch …` of the pages: in blocks, and in backquotes if it has arguments."""
    for page in PAGES:
        text = page.read_text()
        yield from re.findall(r"^    (anabranch [^#\n]+)", text, flags=re.MULTILINE)
        yield from (each for each in re.findall(r"`(anabranch [^`]+)`", text) if " " in each[10:])


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_command_is_one_that_the_command_line_takes(line: str) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    with command.make_context("anabranch", words):
        pass


def test_every_file_that_a_page_links_to_is_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.fixture
def broker() -> Iterator[BrokerSettings]:
    with EmbeddedBroker() as embedded:
        yield BrokerSettings(broker=embedded.address, embedded=True, session_timeout_s=6)


@pytest.fixture
def standby() -> Iterator[BrokerSettings]:
    with EmbeddedBroker() as embedded:
        yield BrokerSettings(broker=embedded.address, embedded=True, session_timeout_s=6)


@pytest.fixture
def own(trained: Trained, tmp_path: Path) -> Trained:
    return renamed(trained, tmp_path)


@pytest.mark.integration
async def test_a_second_cluster_decides_the_same_at_other_offsets_from_a_copied_registry(
    own: Trained, broker: BrokerSettings, standby: BrokerSettings, tmp_path: Path
) -> None:
    events = simulated(own.pipeline, 300)
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, events, 3000)
        await settled(broker, own.pipeline, len(events))
        before = await decisions_of(broker, own.pipeline)
    topic = Topology.of(own.pipeline).events
    shutil.copytree(own.registry.root, tmp_path / "copy")
    restored = Trained(own.home, own.file, Registry(tmp_path / "copy"))
    async with pipeline_running(restored, standby):
        for partition in range(4):  # what is there already: every offset is another one
            await publish_raw(standby, topic, partition, [Record(b"k", b"x", 0)] * 3)
        for record in await records_of(broker, topic):
            copied = Record(record.key, record.value, record.timestamp, list(record.headers))
            await publish_raw(standby, topic, record.partition, [copied])
        await settled(standby, own.pipeline, len(events) + 12)
        after = await decisions_of(standby, own.pipeline)

    def said(decisions: list[dict[str, object]]) -> dict[object, tuple[object, object]]:
        return {
            decision["event_id"]: (decision["score"], decision["decision"])
            for decision in decisions
        }

    def offsets(decisions: list[dict[str, Any]]) -> dict[str, int]:
        return {decision["event_id"]: decision["source"]["offset"] for decision in decisions}

    assert said(after) == said(before)
    assert len(said(after)) == len(events)
    assert {at - offsets(before)[each] for each, at in offsets(after).items()} == {3}


@pytest.mark.integration
async def test_events_that_are_ahead_of_the_pipeline_file_are_decided_once_it_knows_them(
    own: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    pytest.importorskip("jq")
    events = simulated(own.pipeline, 60)
    newer = [(key, json.dumps({**json.loads(value), "device": "d-1"}).encode())
             for key, value in events[40:]]  # fmt: skip
    content = yaml.safe_load(own.file.path.read_text())
    content["event"]["fields"]["device"] = {"type": "string", "optional": True}
    path = tmp_path / "newer.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, [*events[:40], *newer], 3000)
        audit = await settled(broker, own.pipeline, 60)
        assert (audit.total.decided, audit.total.dead) == (40, 20)
    mended = Trained(own.home, load_pipeline(path), own.registry)
    async with pipeline_running(mended, broker):
        code, output = await run(mended, broker, "redrive", "--reason", "InvalidEvent")
        assert code == 0, output
        audit = await settled(broker, own.pipeline, 60)
    assert (audit.total.decided, audit.total.dead, audit.total.lost) == (60, 0, 0)
