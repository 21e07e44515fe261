"""`anabranch trace`: the way of an event, as topics tell it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
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
from tests.integration.test_explain import amounts_of, first_failing, own_components
from topics.settings import BrokerSettings

EVENTS = 300
WIDTH = 80


class Traces:
    """Runs the command on a pipeline."""

    def __init__(self, own: Trained, broker: BrokerSettings) -> None:
        self._own, self._broker = own, broker

    async def run(self, command: str, *words: str) -> Any:
        return await asyncio.to_thread(
            anabranch, self._own, *command.split(), str(self._own.file.path), *words,
            broker=self._broker.broker,
        )  # fmt: skip

    async def of(self, *words: str) -> Any:
        done = await self.run("trace", *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    async def shown(self, *words: str) -> list[str]:
        done = await self.run("trace", *words)
        assert done.returncode == 0, done.stderr
        lines: list[str] = done.stdout.splitlines()
        assert max(map(len, lines)) <= WIDTH, lines
        return lines

    async def refused(self, *words: str) -> list[str]:
        done = await self.run("trace", *words)
        assert (done.returncode, done.stdout) == (1, "")
        lines: list[str] = done.stderr.splitlines()
        return lines


def place_of(source: Any) -> str:
    return f"{source['topic']}/{source['partition']}/{source['offset']}"


async def check_degraded(traces: Traces, event_id: str, decision: Any) -> None:
    traced = await traces.of(event_id)
    assert (traced["state"], traced["event_id"]) == ("decided", event_id)
    assert traced["source"] == decision["source"]
    (attempt,) = traced["attempts"]
    features, large, mendable = attempt["hops"]
    assert [hop["component"] for hop in attempt["hops"]] == ["features", "large", "mendable"]
    assert features["record"]["topic"] == "own.features"
    assert features["covers"][0] <= traced["source"]["offset"] <= features["covers"][1]
    assert (features["after"], features["weight"]) == ("events", None)
    share = decision["contributions"]["large"]
    weighed = (large["signal"], large["weight"], large["contribution"])
    assert weighed == (share["signal"], share["weight"], share["contribution"])
    assert large["model"]["digest"] == share["digest"]
    missing = (mendable["after"], mendable["missing"], mendable["signal"])
    assert missing == ("features", "failed", None)
    assert mendable["failure"]["error"] == "ArithmeticError"
    end = attempt["end"]
    assert (end["kind"], end["missing"]) == ("decision", {"mendable": "failed"})
    assert (end["degraded"], end["score"]) == (True, decision["score"])
    assert end["after"] in ("large", "mendable")
    assert end["in_join_ms"] >= 0
    assert end["queued_and_computed_ms"] >= 0
    assert traced["not_known"] == []
    assert await traces.of(place_of(traced["source"])) == traced
    assert await traces.of(place_of(end["record"])) == traced
    shown = await traces.shown(event_id)
    assert any("not weighed: failed" in line for line in shown)
    assert any(f"= {share['contribution']:.4f}" in line for line in shown)


async def check_dead(traces: Traces, event_id: str) -> None:
    traced = await traces.of(event_id)
    assert traced["state"] == "dead"
    letter = traced["attempts"][0]["end"]
    assert (letter["kind"], letter["error"]) == ("dead-letter", "InvalidEvent")
    shown = await traces.shown(place_of(letter["record"]))
    assert any("InvalidEvent" in line for line in shown)


async def check_redriven(traces: Traces, event_id: str, signal: float) -> None:
    traced = await traces.of(event_id)
    first, again = traced["attempts"]
    assert traced["state"] == "decided"
    assert (first["attempt"], first["end"]["kind"]) == (1, "dead-letter")
    assert (again["attempt"], again["end"]["kind"]) == (2, "decision")
    *_, to_weigh, ending = again["steps"]
    assert (to_weigh["next"], ending["end"]) == ("weigh", "decision")
    signals = {hop["component"]: hop["signal"] for hop in again["hops"]}
    assert {*signals} == {"features", "large", "mendable"}
    assert signals["large"] == signal
    shown = await traces.shown(place_of(again["end"]["record"]))
    assert any("attempt 2" in line for line in shown)


async def check_refused(traces: Traces, twice: str) -> None:
    listed = await traces.refused(twice)
    assert "2 events have the id" in listed[0]
    assert len(listed) == 3
    assert (await traces.of(listed[1].split()[0]))["event_id"] == twice
    assert "has no event with the id 'nobody'" in (await traces.refused("nobody"))[0]
    assert "the topic ends before" in (await traces.refused("own.events/0/100000"))[0]
    assert "name the record on own.events" in (await traces.refused("own.features/0/0"))[0]


async def test_the_ways_of_a_degraded_a_dead_and_a_redriven_event_are_told(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    own = own_components(tmp_path, "renormalise")
    events = simulated(own.pipeline, EVENTS)
    twice = orjson.loads(events[5][1])["transaction_id"]
    broken = orjson.loads(events[6][1]) | {"transaction_id": "mended", "amount": None}
    hopeless = orjson.loads(events[7][1]) | {"transaction_id": "dead", "occurred_at": "never"}
    more = [(events[6][0], orjson.dumps(broken)), (events[7][0], orjson.dumps(hopeless))]
    traces = Traces(own, broker)
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, [*events, events[5], *more], 2000)
        await settled(broker, own.pipeline, EVENTS + 3)
        redriven = await traces.run(
            "dead-letters redrive", "--reason", "amount", "--edit", ".amount = 250.01"
        )
        assert redriven.returncode == 0, redriven.stderr
    decisions: list[Any] = await decisions_of(broker, own.pipeline)
    failing = first_failing(amounts_of(events))

    decision = next(each for each in decisions if each["event_id"] == failing)
    await check_degraded(traces, failing, decision)
    await check_dead(traces, "dead")
    await check_redriven(traces, "mended", float(np.float32(250.01 / 500)))
    await check_refused(traces, twice)
