"""`anabranch evidence` and `anabranch verify`: one decision, proven without broker and registry."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import orjson

from tests.integration.harness import (
    Trained,
    decisions_of,
    pipeline_running,
    publish,
    settled,
    simulated,
)
from tests.integration.test_cli import anabranch
from tests.integration.test_explain import Scene, amounts_of, decided, first_failing, own_components
from topics.pipeline.file import load_pipeline
from topics.settings import BrokerSettings

EVENTS = 300
NOBODY = "127.0.0.1:1"


class Packs:
    """Makes packs of a pipeline's events, and verifies them where there is nothing else."""

    def __init__(self, own: Trained, broker: BrokerSettings, home: Path) -> None:
        self._own, self._broker, self._home = own, broker, home

    async def run(self, command: str, *words: str) -> Any:
        said, embedded = (*command.split(), str(self._own.file.path), *words), self._broker.embedded
        if not embedded:
            said = (*said, "--broker", self._broker.broker)
        return await asyncio.to_thread(
            anabranch, self._own, *said, broker=self._broker.broker if embedded else ""
        )

    async def of(self, event: str) -> Path:
        path = self._home / f"{event.replace('/', '-')}.zip"
        done = await self.run("evidence", event, "-o", str(path), "--force", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["holds"]
        return path

    async def keeps(self, path: Path, event: str) -> None:
        """A pack that is there is not overwritten unasked."""
        there = self.verified(path)
        done = await self.run("evidence", event, "-o", str(path))
        assert (done.returncode, self.verified(path)) == (1, there)
        assert done.stderr.endswith(" exists: name another file, or overwrite it with --force\n")

    async def refused(self, event: str) -> str:
        path = self._home / "none.zip"
        done = await self.run("evidence", event, "-o", str(path))
        assert (done.returncode, done.stdout, path.exists()) == (1, "", False)
        said: str = done.stderr
        return said

    def verified(self, path: Path, *words: str) -> dict[str, Any]:
        """What `verify --json` says, where neither registry nor broker is."""
        alone = Trained(self._home / "elsewhere", self._own.file, self._own.registry)
        done = anabranch(alone, "verify", str(path), *words, "--json", broker=NOBODY)
        said: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if said["holds"] else 1), done.stderr
        assert done.stderr == ""
        return said


def said_of(verified: dict[str, Any]) -> dict[str, str]:
    assert verified["holds"], verified
    return {each["what"]: each["said"] for each in verified["findings"]}


@contextmanager
def moved_away(path: Path) -> Iterator[None]:
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


async def refuses_what_is_not_there(packs: Packs, scene: Scene) -> None:
    """Events, and at last a model."""
    twice = (await packs.refused(scene.twice)).splitlines()
    assert f"2 events have the id '{scene.twice}'" in twice[0]
    assert len(twice) == 3
    assert "has no event with the id 'nobody'" in await packs.refused("nobody")
    beyond = f"{scene.decision['source']['topic']}/0/100000"
    assert "no such record: the topic ends before" in await packs.refused(beyond)
    name = scene.own.pipeline.name
    shutil.rmtree(scene.own.home / "registry" / name / "risk-forest")
    forest = scene.decision["contributions"]["risk-forest"]
    gone = f"the model {forest['model']} ({forest['digest']}) decided about this event and is no"
    assert gone in await packs.refused(scene.place)


async def test_a_decision_is_proven_from_its_pack_alone(
    trained: Trained, tmp_path: Path, broker: BrokerSettings
) -> None:
    scene = await decided(trained, tmp_path, broker)
    packs, decision, source = Packs(scene.own, broker, tmp_path), scene.decision, scene.place
    path = await packs.of(source)
    assert (await packs.of(decision["event_id"])).read_bytes() == path.read_bytes()
    own_file = scene.own.file.path
    was = own_file.read_text()
    own_file.write_text(was.replace("decline: 0.5", "decline: 0.6"))
    assert own_file.read_text() != was
    assert (await packs.of(source)).read_bytes() == path.read_bytes(), (
        "the file that decided counts"
    )
    await packs.keeps(path, source)
    registry = tmp_path / "registry"
    with moved_away(registry):
        said = packs.verified(path)
    assert (said["agreement"], said["expected"]) == ("bits", "bits")
    found = said_of(said)
    assert found["signals"] == (
        "features, risk-linear, risk-forest, decision derived again, to the bit; "
        "taken as recorded: terminals"
    )
    own_fields, _, windows = found["features"].partition(" derived from the raw event again; ")
    assert own_fields == "amount, is_weekend, is_night"
    assert "customer_count_1d" in windows
    assert found["named files"].startswith("pipeline.yaml, policy.json, weights.json are those")
    assert found["explanation"] == "base and 4 groups come out again, and sum to the score"
    with ZipFile(path) as file:
        assert file.testzip() is None
        raw = orjson.loads(file.read(f"records/{source}.value"))
        explained = json.loads(file.read("explanation.json"))
        models = {name for name in file.namelist() if name.startswith("models/")}
    assert raw["transaction_id"] == decision["event_id"]
    shares = decision["contributions"].values()
    assert {f"models/{share['digest'][7:]}.onnx" for share in shares} == models
    done = await packs.run("explain", source, "--json")
    assert json.loads(done.stdout) == explained

    shown = anabranch(None, "verify", str(path))
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[-1] == f"sha256:{said['sha256']}"
    assert packs.verified(path, "--sha256", said["sha256"]) == said
    assert not packs.verified(path, "--sha256", "0" * 64)["holds"]
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    assert not packs.verified(path)["holds"]

    await refuses_what_is_not_there(packs, scene)


async def test_degraded_dead_and_redriven_events_are_proven(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    await prove_degraded_dead_and_redriven(tmp_path, broker)


async def prove_degraded_dead_and_redriven(tmp_path: Path, broker: BrokerSettings) -> None:
    """Of a pipeline of own components, on any broker."""
    own = own_components(tmp_path, "renormalise")
    events = simulated(own.pipeline, EVENTS)
    broken = orjson.loads(events[6][1]) | {"transaction_id": "mended", "amount": None}
    hopeless = orjson.loads(events[7][1]) | {"transaction_id": "dead", "occurred_at": "never"}
    more = [(events[6][0], orjson.dumps(broken)), (events[7][0], orjson.dumps(hopeless))]
    packs = Packs(own, broker, tmp_path)
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, [*events, *more], 2000)
        await settled(broker, own.pipeline, EVENTS + 2)
        redriven = await packs.run(
            "dead-letters redrive", "--reason", "amount", "--edit", ".amount = 250.01"
        )
        assert redriven.returncode == 0, redriven.stderr
    waiting = orjson.loads(events[7][1]) | {"transaction_id": "waiting"}
    await publish(broker, own.pipeline, [(events[7][0], orjson.dumps(waiting))], 2000)
    in_flight = await packs.refused("waiting")
    assert "has neither a decision nor a dead letter, and waits for features" in in_flight

    failing = first_failing(amounts_of(events))
    said = packs.verified(await packs.of(failing))
    found = said_of(said)
    assert found["score"].endswith("to the bit, without mendable")
    assert found["signals"] == "none derived again; taken as recorded: features, large"
    assert said["agreement"] == "bits", "of features"
    assert found["explanation"].startswith("base and")

    said = packs.verified(await packs.of("dead"))
    assert said_of(said)["dead letter"] == ("attempt 1: large: InvalidEvent, which comes out again")
    assert said["manifest"]["state"] == "dead"

    path = await packs.of("mended")
    said = packs.verified(path)
    assert said_of(said)["features"] == "amount derived from the raw event again"
    assert (said["manifest"]["state"], said["manifest"]["attempt"]) == ("decided", 2)
    with ZipFile(path) as file:
        topics = {name.split("/")[1] for name in file.namelist() if name.startswith("records/")}
    assert {"own.events", "own.dead-letters", "own.redrive", "own.decisions"} <= topics


async def test_a_late_event_is_proven_without_what_came_too_late(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    own = own_components(tmp_path, "renormalise")
    late = "  missing: renormalise\n  late: {fallback: decline}\n  deadline_ms: 300"
    path = own.file.path
    path.write_text(path.read_text().replace("  missing: renormalise", late))
    own = Trained(own.home, load_pipeline(path), own.registry)
    events = simulated(own.pipeline, 20)
    (tmp_path / "halt").touch()
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, events, 2000)
        await settled(broker, own.pipeline, len(events))
        (tmp_path / "halt").unlink()
        decisions: list[Any] = await decisions_of(broker, own.pipeline)
        assert {each["decided_by"] for each in decisions} == {"late"}
        packs = Packs(own, broker, tmp_path)
        pack = await packs.of(decisions[0]["event_id"])
    said = packs.verified(pack)
    found = said_of(said)
    assert found["score"] == "there is none: some stage was late"
    assert found["decision"] == "decline is what the pipeline file has for what is late"
    assert said["manifest"]["without_explanation"] == "it was decided without a score"
    with ZipFile(pack) as file:
        assert not [name for name in file.namelist() if "own.mendable" in name]
