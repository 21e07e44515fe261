"""`anabranch dataset`: its rows are what was published, served and came true, and nothing later."""

from __future__ import annotations

import asyncio
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
import yaml

from agents.broker import ensure_outcomes_topic
from agents.commands import labelled_events
from agents.publish import publisher as publishing
from models.features import FeatureVector
from models.simulators import SIMULATORS
from tests.integration.harness import (
    Trained,
    decisions_of,
    exploring,
    pipeline_running,
    publish,
    publish_raw,
    renamed,
    settled,
)
from tests.integration.test_cli import anabranch
from topics.kafka.batches import Record
from topics.pipeline.topology import Topology
from topics.records import outcome_fields, outcome_of
from topics.settings import BrokerSettings

NOBODY = "127.0.0.1:1"
EVENTS = 6000
LABELLED = [*islice(SIMULATORS["card-fraud"](7), EVENTS)]
REVERSED, SILENT = 4, 7
"""Every so many events have an outcome that is taken back, or none."""


def came_true() -> dict[str, bool]:
    """What is known in the end, by event id."""
    known = {}
    for number, each in enumerate(LABELLED):
        if number % SILENT:
            wrong_at_first = not number % REVERSED
            known[str(each.event["transaction_id"])] = each.label if not wrong_at_first else True
    return known


async def served(own: Trained, broker: BrokerSettings) -> dict[str, Any]:
    """All events are decided, and what came true is published; the decisions by event id."""
    topology, key = Topology.of(own.pipeline), own.pipeline.event.key
    events = [publishing.encoded(each.event, key) for each in LABELLED]
    async with pipeline_running(own, broker):
        await publish(broker, own.pipeline, [*events, (b"c-1", b"no event")], 3000)
        await settled(broker, own.pipeline, EVENTS + 1)
    fields, labels = outcome_fields(own.pipeline), came_true()
    await ensure_outcomes_topic(broker, topology)
    said = [
        outcome_of(fields, each.event, label=each.label)
        for each in LABELLED
        if str(each.event["transaction_id"]) in labels
    ]
    said += [
        each | {"outcome": labels[str(each["transaction_id"])]}
        for each in said
        if labels[str(each["transaction_id"])] != each["outcome"]
    ]
    await publish_raw(
        broker, topology.outcomes, 1, [Record(b"", orjson.dumps(each), 5) for each in said]
    )
    decisions: list[Any] = await decisions_of(broker, own.pipeline)
    return {decision["event_id"]: decision for decision in decisions}


async def written(
    own: Trained, broker: BrokerSettings, path: Path, *words: str, immature: bool = True
) -> Any:
    """Of all events, also of the last seven days of their time: that is all that a test has."""
    words = (*words, "--immature") if immature else words
    done = await asyncio.to_thread(
        anabranch, own, "dataset", str(own.file.path), "-o", str(path), *words, "--json",
        broker=broker.broker,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_rows_are_what_was_published_served_and_came_true(
    trained: Trained, tmp_path: Path, broker: BrokerSettings
) -> None:
    own, path = renamed(trained, tmp_path), tmp_path / "all.parquet"
    own = exploring(own, **{"of": ["approve"], "as": "review", "share": 0.5})
    decisions = await served(own, broker)
    said = await written(own, broker, path)
    labels = came_true()
    assert (said["rows"], said["invalid"], said["undecided"]) == (EVENTS, 1, 0)
    assert said["labelled"] == len(labels) == EVENTS - said["unlabelled"]
    assert said["positives"] == sum(labels.values())
    assert abs(said["explored"] - 0.5 * said["explorable"]) < 0.1 * said["explorable"]
    rows = pq.read_table(path).to_pylist()
    check_decided(rows, decisions)
    check_windows(rows, own)
    check_served_windows(rows, own, path)
    counted = [row for row in rows if row["outcome"] is not None and counts(row)]
    await check_trains(own, path, len(counted))
    await check_trains_from_topics(own, broker)
    await check_overwrites_nothing(own, broker, path)
    await written(own, broker, path, "--labelled", "--force")
    labelled = {row["transaction_id"]: row["outcome"] for row in pq.read_table(path).to_pylist()}
    assert labelled == labels
    await check_backfill(own, broker, tmp_path, rows)
    await check_maturity(own, broker, tmp_path)


def check_decided(rows: list[dict[str, Any]], decisions: dict[str, Any]) -> None:
    """Against the records on the decisions topic, and what was published."""
    labels, by_id = came_true(), {row["transaction_id"]: row for row in rows}
    assert len(by_id) == len(rows) == EVENTS
    times = [row["occurred_at"] for row in rows]
    assert times == sorted(times)
    for each in LABELLED:
        name = str(each.event["transaction_id"])
        row, decision = by_id[name], decisions[name]
        assert row["amount"] == each.event["amount"]
        assert row["terminal_id"] == each.event["terminal_id"]
        assert row["outcome"] is labels.get(name)
        assert (row["decision"], row["score"]) == (decision["decision"], decision["score"])
        assert row["propensity"] == decision.get("propensity", 1.0)
        assert row["explored"] is decision.get("explored", False)
        assert row["instead_of"] == decision.get("instead_of")
        source = decision["source"]
        assert (row["source_partition"], row["source_offset"]) == (
            source["partition"], source["offset"],
        )  # fmt: skip
        for stage, share in decision["contributions"].items():
            assert row[f"signal.{stage}"] == pytest.approx(share["signal"], abs=1e-7)
            assert row[f"model.{stage}"] == share["model"]


def check_windows(rows: list[dict[str, Any]], own: Trained) -> None:
    """Against the customer's payments of the day before each, counted here."""
    pasts: dict[object, list[tuple[np.datetime64, float]]] = {}
    expected = {}
    for each in LABELLED:  # in order of time
        event: dict[str, Any] = dict(each.event)
        at = np.datetime64(event["occurred_at"].removesuffix("Z"))
        past = pasts.setdefault(event["customer_id"], [])
        past.append((at, event["amount"]))
        day = [amount for when, amount in past if at - np.timedelta64(1, "D") < when]
        expected[event["transaction_id"]] = (len(day), sum(day) / len(day))
    features = FeatureVector(own.pipeline.component("features").features or ())
    assert {f"features.{name}" for name in features.names} <= rows[0].keys()
    for row in rows:
        count, mean = expected[row["transaction_id"]]
        assert row["features.customer_count_1d"] == count
        assert row["features.customer_mean_amount_1d"] == pytest.approx(mean, rel=1e-6)


async def check_trains(own: Trained, path: Path, rows: int) -> None:
    """The file is a training set, of the rows whose outcome is known."""
    done = await asyncio.to_thread(
        anabranch, own, "train", str(own.file.path), "--data", str(path), "--json", broker=""
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == rows


def counts(row: dict[str, Any]) -> bool:
    """Not where it was not explored and might have been: for that the explored ones stand."""
    return bool(row["explored"]) or row["propensity"] == 1


async def check_trains_from_topics(own: Trained, broker: BrokerSettings) -> None:
    """The rows but for the very newest; and the windows are those that were served, of all."""
    done = await asyncio.to_thread(
        anabranch, own, "train", str(own.file.path), "--from-topics", "--component", "risk-linear",
        "--matured", "0", "--json", broker=broker.broker,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] > 0.3 * EVENTS
    assert "events with an outcome from the topics" in done.stderr.replace("\n", " ")
    assert not [*own.home.glob(".served-*")]


def check_served_windows(rows: list[dict[str, Any]], own: Trained, path: Path) -> None:
    """Training has the numbers of the file, for the rows with an outcome, in their order."""
    data = labelled_events.from_file(own.pipeline, str(path))
    labelled = [row for row in rows if row["outcome"] is not None and counts(row)]
    assert data.weights is not None
    assert data.weights.tolist() == [2.0 if row["explored"] else 1.0 for row in labelled]
    assert data.columns["transaction_id"].tolist() == [row["transaction_id"] for row in labelled]
    for component, columns in data.windowed.items():
        for name, values in columns.items():
            assert values.tolist() == [row[f"{component}.{name}"] for row in labelled]
    assert set(data.windowed) == {"features", "terminals"}


async def check_overwrites_nothing(own: Trained, broker: BrokerSettings, path: Path) -> None:
    again = await asyncio.to_thread(
        anabranch, own, "dataset", str(own.file.path), "-o", str(path), broker=broker.broker
    )
    assert (again.returncode, again.stderr) == (
        1, f"error: {path} exists: name another file, or overwrite it with --force\n",
    )  # fmt: skip


async def check_backfill(
    own: Trained, broker: BrokerSettings, home: Path, served_rows: list[dict[str, Any]]
) -> None:
    """What was served comes out again, and a window that was not is what is counted here."""
    text = own.file.path.read_text()
    content = yaml.safe_load(text)
    features = content["components"][0]["features"]
    features.insert(0, {"name": "customer_max", "apply": "max", "of": "amount", "over": ["2d"]})
    own.file.path.write_text(yaml.safe_dump(content, sort_keys=False))
    path, asked = home / "backfilled.parquet", ("dataset", str(own.file.path), "-o")
    refused = await asyncio.to_thread(anabranch, own, *asked, str(path), broker=broker.broker)
    assert refused.returncode == 1
    assert "features has written 9 features, and the pipeline file has 10" in refused.stderr
    half = [f"{partition}/{offset}" for partition, offset in enumerate([700, 700, 700, 700])]
    since = [word for edge in half for word in ("--from", edge)]
    said = await written(own, broker, path, "--backfill", *since)
    rows = {row["transaction_id"]: row for row in pq.read_table(path).to_pylist()}
    assert (said["rows"], said["not_backfilled"]) == (len(rows), 0)
    assert 1000 < len(rows) < EVENTS
    before = {row["transaction_id"]: row for row in served_rows}
    own_names = [name for name in served_rows[0] if name.startswith("features.")]
    past: dict[object, list[tuple[np.datetime64, float]]] = {}
    for each in LABELLED:  # in order of time
        event: dict[str, Any] = dict(each.event)
        at = np.datetime64(event["occurred_at"].removesuffix("Z"))
        amounts = past.setdefault(event["customer_id"], [])
        amounts.append((at, event["amount"]))
        row = rows.get(event["transaction_id"])
        if row is None:
            continue
        largest = max(amount for when, amount in amounts if at - np.timedelta64(2, "D") < when)
        assert row["features.customer_max_2d"] == np.float32(largest)
        for name in own_names:
            assert row[name] == before[event["transaction_id"]][name]
    own.file.path.write_text(text)


async def check_maturity(own: Trained, broker: BrokerSettings, home: Path) -> None:
    """Events too young for an outcome, by their own time, are left out, unless asked for."""
    week = await written(own, broker, home / "week.parquet", immature=False)
    assert (week["rows"], week["immature"]) == (0, EVENTS)  # of one day of 2018
    hour = await written(own, broker, home / "hour.parquet", "--matured", "0.01", immature=False)
    assert 0 < hour["immature"] < EVENTS
    assert hour["rows"] + hour["immature"] == EVENTS
    text = own.file.path.read_text()
    own.file.path.write_text(text.replace("delay: 7d", "delay: 36500d"))
    young = await written(own, broker, home / "young.parquet", immature=False)
    assert (young["rows"], young["immature"]) == (0, EVENTS)
    every = await written(own, broker, home / "every.parquet")
    assert (every["rows"], every["immature"]) == (EVENTS, 0)


@pytest.mark.parametrize(
    ("file", "why"),
    [("rows.csv", "its name must end in .parquet"), ("file/rows.parquet", "File exists")],
)
def test_a_place_that_cannot_be_is_said_before_a_broker_is_asked(
    trained: Trained, tmp_path: Path, file: str, why: str
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / file
    done = anabranch(trained, "dataset", str(trained.file.path), "-o", str(path), broker=NOBODY)
    assert (done.returncode, done.stderr) == (1, f"error: {path} is not written: {why}\n")
