"""Run a month, and print its verdict.

    python -m tests.benchmarks.month -o DIR                 # fraud changes on day 10
    python -m tests.benchmarks.month -o DIR --calm          # the same month without change

Exit code 1 where a claim is not reached.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from agents.broker import ensure_outcomes_topic, ensure_topics, wait_for_broker
from agents.cli import COMMANDS
from agents.commands import labelled_events
from agents.components import open_component
from models.registry import Registry
from models.training.data import with_windows
from models.training.train import train
from tests.benchmarks import broker
from tests.benchmarks.month.actors import Actor, supervised
from tests.benchmarks.month.claims import Claim, Month
from tests.benchmarks.month.stream import Stream
from tests.benchmarks.month.witness import Witness
from tests.benchmarks.month.world import World
from topics.pipeline import PipelineFile, Topology, find_pipeline, load_pipeline
from topics.settings import BrokerSettings

_NAME = "month"
_SETTLED_S = 180.0
_RENEW: dict[str, Any] = {
    # A month is short: a wave has to be learned of before it is over.
    "fresh": "2d", "cool_down": "1d", "gate_over": "1d",
    # The wave is a tenth of all events, and what it changes is more than the default lets pass.
    "gate": "dead <= 0 and changed <= 30%",
}  # fmt: skip
_KNOWN = {command.__name__ for command in COMMANDS}


def pipeline_in(home: Path, options: argparse.Namespace) -> PipelineFile:
    """The pipeline file of the month: card-fraud, with small forests, that renews itself."""
    content = yaml.safe_load(find_pipeline("card-fraud").read_text())
    content |= {"pipeline": _NAME, "partitions": 2}
    content["renew"] = {"on": options.on.split(","), **_RENEW}
    content["explain"] = {}
    # A month has a few hundred declines: of these one in twenty, or none would be explored.
    content["policy"]["explore"] = {"of": ["decline"], "as": "approve", "share": 0.05}
    content["weighting"]["learning"] = {"mode": "active"}
    if "schedule" in options.on:
        content["renew"]["every"] = options.every
    for component in content["components"]:
        parameters = component.get("model", {}).get("parameters", {})
        if "n_estimators" in parameters:
            parameters["n_estimators"] = 20
    path = home / f"{_NAME}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return load_pipeline(path)


async def month(home: Path, options: argparse.Namespace, address: str) -> Month:
    """All of it, from the first event to the last decision."""
    world = World(
        seed=options.seed, customers=options.customers, terminals=2 * options.customers,
        days=options.days, change_day=None if options.calm else options.change_day,
    )  # fmt: skip
    file, registry = pipeline_in(home, options), Registry(home / "registry")
    past = with_windows(file.pipeline, labelled_events.collected(file.pipeline, world.past()))
    fitted_ms = world.time_of(-world.fitted_days).timestamp() * 1000
    newest = past.picked(past.columns[file.pipeline.event.time] >= fitted_ms)
    train(file.pipeline, home, newest, registry, open_component=open_component)
    settings = BrokerSettings(broker=address)
    await wait_for_broker(settings)
    await ensure_topics(settings, Topology.of(file.pipeline))
    await ensure_outcomes_topic(settings, Topology.of(file.pipeline))
    witness = Witness(address, file.pipeline.name)
    stream = Stream(world, file.pipeline, settings, witness)
    words = {"workers": ["run", str(file.path)], "trainer": ["renew", str(file.path)]}
    if "monitor" in _KNOWN:
        words["monitor"] = ["monitor", str(file.path)]
    actors = [Actor(name, each, home, settings) for name, each in words.items()]
    following = asyncio.create_task(witness.follow())
    every_s = None if options.unharmed else options.kill_every
    acting = asyncio.create_task(
        supervised(actors, stream.has_begun, kill_every_s=every_s, seed=options.seed)
    )
    telling = asyncio.create_task(_tell(stream, witness))
    try:
        streaming = asyncio.create_task(stream.run(options.seconds_a_day))
        await asyncio.wait({streaming, following, acting}, return_when=asyncio.FIRST_COMPLETED)
        for task in (streaming, following, acting):
            if task.done():
                task.result()
        until = time.monotonic() + _SETTLED_S
        while len(witness.decided) + witness.dead_letters < len(stream.truth):
            if time.monotonic() > until:
                break
            await asyncio.sleep(1)
        await asyncio.sleep(5)  # for what would be decided twice
        judged = Month(world, stream, witness, options.detection_days, options.alarms)
        while not judged.is_counted and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(1)
    finally:
        for task in (telling, acting, following):
            task.cancel()
        await asyncio.gather(telling, acting, following, return_exceptions=True)
    kills = ", ".join(f"{each.name} {each.kills}" for each in actors)
    print(f"killed: {kills}; outcomes {len(stream.told):,}", file=sys.stderr)
    report = _report(home, file, settings) if "report" in _KNOWN else None
    return replace(judged, report=report, killed={each.name: each.kills for each in actors})


async def _tell(stream: Stream, witness: Witness) -> None:
    """How far it has come, now and then."""
    said = 0
    while True:
        await asyncio.sleep(10)
        print(
            f"day {stream.day:5.1f}: {len(stream.truth):,} published, {len(witness.decided):,} "
            f"decided, {len(stream.told):,} outcomes", file=sys.stderr, flush=True,
        )  # fmt: skip
        for each in witness.renewals[said:]:
            if each.get("kind") in ("trigger", "verdict") or each.get("state") in (
                "done", "failed", "noted",
            ):  # fmt: skip
                what = each.get("step") or each.get("verdict") or each.get("trigger")
                state, reason = each.get("state", ""), str(each.get("reason", ""))[:300]
                print(f"  {each['renewal']} {what} {state}: {reason}", file=sys.stderr, flush=True)
        said = len(witness.renewals)


def _report(home: Path, file: PipelineFile, settings: BrokerSettings) -> str:
    page = home / "report.html"
    subprocess.run(
        [sys.executable, "-m", "agents", "report", str(file.path), "-o", str(page),
         "--broker", settings.broker],
        check=False, timeout=600,
    )  # fmt: skip
    with contextlib.suppress(OSError):
        return page.read_text()
    return ""


def _print(claims: list[Claim], month: Month) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("claim", "", "what was seen"):
        table.add_column(column, overflow="fold")
    for claim in claims:
        table.add_row(*claim)
    console = Console(width=120)
    console.print(table)
    for name, daily in (
        ("average precision", month.daily_precision()), ("AUC", month.daily_auc()),
    ):  # fmt: skip
        days = ", ".join(f"{day} {value:.2f}" for day, value in daily.items())
        console.print(f"{name} by day: {days}")


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--calm", action="store_true", help="without any change")
    parser.add_argument("--unharmed", action="store_true", help="nothing is killed")
    parser.add_argument("--on", default="drift,quality", help="what begins renewals")
    parser.add_argument("--every", default="7d", help="of --on schedule")
    parser.add_argument("--days", type=int, default=35)
    parser.add_argument("--change-day", type=int, default=10)
    parser.add_argument("--customers", type=int, default=500)
    parser.add_argument("--seconds-a-day", type=float, default=12.0)
    parser.add_argument("--kill-every", type=float, default=75.0, help="seconds, on average")
    parser.add_argument("--detection-days", type=float, default=3.0)
    parser.add_argument("--alarms", type=int, default=4, help="of drift, in a calm month")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it says each try to connect
    home = options.output.resolve()
    home.mkdir(parents=True)
    with broker.running(home / "kafka") as kafka:
        judged = asyncio.run(month(home, options, kafka.address))
    claims = [*judged.claims()]
    document = {
        "options": {name: str(value) for name, value in vars(options).items()},
        "claims": [claim._asdict() for claim in claims],
        "average_precision": judged.daily_precision(),
        "auc": judged.daily_auc(),
        "promotions": judged.promotions(),
        "renewals": judged.witness.renewals,
        "control": judged.witness.control,
        "monitor": judged.witness.monitor,
    }
    (home / "verdict.json").write_text(json.dumps(document, indent=1, default=str))
    _print(claims, judged)
    return int(any(claim.state == "not reached" for claim in claims))


if __name__ == "__main__":
    raise SystemExit(main())
