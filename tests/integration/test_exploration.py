"""Exploration in running pipelines: as anybody computes it from raw events, and the same again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.harness import (
    Trained,
    exploring,
    pipeline_running,
    publish,
    records_of,
    renamed,
    settled,
    simulated,
)
from tests.integration.test_cli import anabranch
from tests.integration.test_dead_letters import fails, mend, run
from tests.integration.test_dead_letters import own as mendable
from tests.integration.test_evidence import Packs, said_of
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

__all__ = ["mendable"]

EVENTS, SHARE, MOST = 2_000, 0.2, 60.0
Edit = Callable[[dict[str, Any]], None]


def edited(own: Trained, edit: Edit) -> Trained:
    content = yaml.safe_load(own.file.path.read_text())
    edit(content)
    own.file.path.write_text(yaml.safe_dump(content, sort_keys=False))
    return Trained(own.home, load_pipeline(own.file.path), own.registry)


def as_it_ships(_: dict[str, Any]) -> None:
    """Own processes' worth of components, one of them repartitioned."""


def fused(content: dict[str, Any]) -> None:
    content["fuse"] = [["risk-linear", "risk-forest", "decision"]]


def in_json_with_a_fallback(content: dict[str, Any]) -> None:
    """The weighting agent reads the events, too; the deadline is far from being reached."""
    content["codec"] = "json"
    content["weighting"] |= {"late": {"fallback": "review"}, "deadline_ms": 3_600_000}


def chosen(own: Trained, partition: int, offset: int) -> bool:
    """By what deploy/exploration.md says, and nothing of ours."""
    name = own.pipeline.name
    about = f"{name}.events/{partition}/{offset}".encode()
    digest = blake2b(about, digest_size=8, key=name.encode()).digest()
    return int.from_bytes(digest, "big") < SHARE * 2**64


async def checked(own: Trained, broker: BrokerSettings) -> list[dict[str, Any]]:
    """The decisions that were explored, once all are as they have to be by their raw events."""
    topology = Topology.of(own.pipeline)
    amounts = {
        (record.partition, record.offset): json.loads(record.value or b"")["amount"]
        for record in await records_of(broker, topology.events)
    }
    explored, kept = [], 0
    thresholds = own.pipeline.policy.thresholds
    for record in await records_of(broker, topology.decisions):
        decision = json.loads(record.value or b"")
        at = decision["source"]["partition"], decision["source"]["offset"]
        reached = [name for name, least in thresholds.items() if decision["score"] >= least]
        by_policy = reached[-1] if reached else "approve"
        said = {name: decision.get(name) for name in ("explored", "instead_of", "propensity")}
        if by_policy == "approve" or amounts[at] > MOST:
            assert said == {"explored": None, "instead_of": None, "propensity": None}
            assert decision["decision"] == by_policy
        elif chosen(own, *at):
            assert said == {"explored": True, "instead_of": by_policy, "propensity": SHARE}
            assert decision["decision"] == "approve"
            explored.append(decision)
        else:
            assert said == {"explored": None, "instead_of": None, "propensity": 1 - SHARE}
            assert decision["decision"] == by_policy
            kept += 1
    assert kept > len(explored) > 20
    return explored


def explored_pipeline(trained: Trained, home: Path, edit: Edit) -> Trained:
    """Thresholds are so low that many events are explorable."""

    def lower(content: dict[str, Any]) -> None:
        content["policy"]["thresholds"] = {"review": 0.0005, "decline": 0.002}
        edit(content)

    own = edited(renamed(trained, home), lower)
    return exploring(
        own, **{"of": ["decline", "review"], "as": "approve", "share": SHARE,
                "up_to": {"amount": MOST}},
    )  # fmt: skip


@pytest.mark.parametrize("edit", [as_it_ships, fused, in_json_with_a_fallback])
async def test_decisions_are_explored_as_computed_from_raw_events_and_replayed_to_the_byte(
    trained: Trained, tmp_path: Path, broker: BrokerSettings, edit: Edit
) -> None:
    own = explored_pipeline(trained, tmp_path, edit)
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, simulated(own.pipeline, EVENTS), 3000)
        await settled(broker, own.pipeline, EVENTS)
    one, *_ = await checked(own, broker)
    path = str(own.file.path)

    def asked(*words: str) -> Any:
        done = anabranch(own, *words, "--json", broker=broker.broker)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    replayed = await asyncio.to_thread(asked, "replay", path)
    assert (replayed["decisions"], replayed["different"]) == (EVENTS, 0)
    looser = tmp_path / "looser.yaml"
    looser.write_text(own.file.path.read_text().replace("decline: 0.002", "decline: 0.004"))
    report = await asyncio.to_thread(asked, "replay", path, "--policy", str(looser))
    assert {
        (flow["from"], flow["to"]) for flow in report["flows"] if flow["from"] != flow["to"]
    } <= {("decline", "review")}, "what chance did is no change of policy"
    if edit is as_it_ships:
        source = "/".join(map(str, one["source"].values()))
        packs = Packs(own, broker, tmp_path)
        verified = packs.verified(await packs.of(source))
        said = said_of(verified)["decision"]
        assert said.endswith(f"explored instead of {one['instead_of']}, propensity {SHARE:g}")
        trace = await asyncio.to_thread(asked, "trace", path, source)
        (end,) = [attempt["end"] for attempt in trace["attempts"]]
        assert (end["instead_of"], end["propensity"]) == (one["instead_of"], SHARE)
        reason = (await asyncio.to_thread(asked, "explain", path, source))["reason"]
        assert reason.startswith(f"approve (explored, {one['instead_of']} by its score): score ")


async def test_redriven_events_are_explored_as_those_that_were_not(
    mendable: Trained, broker: BrokerSettings
) -> None:
    own = edited(mendable, lambda content: content["policy"].update(
        thresholds={"review": 0.0005, "decline": 0.002}
    ))  # fmt: skip
    own = exploring(
        own, **{"of": ["decline", "review"], "as": "approve", "share": SHARE,
                "up_to": {"amount": MOST}},
    )  # fmt: skip
    events = simulated(own.pipeline, EVENTS)
    dead = sum(fails(value) for _, value in events)
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, events, 3000)
        await settled(broker, own.pipeline, EVENTS)
        mend(own)
        code, output = await run(own, broker, "redrive")
        assert (code, output["decided"]) == (0, dead)
    await checked(own, broker)
