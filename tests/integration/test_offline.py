"""Scoring a file without a broker: to the bit what a running pipeline decides of the same file."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from agents.commands.publish import publish_events
from agents.offline import Extraction, Scoring, write_rows
from models.data import event_rows
from models.simulators import LabelledEvent
from tests.integration.harness import (
    Trained,
    decisions_of,
    outputs_of,
    pipeline_running,
    records_of,
    settled,
    trained_small,
)
from tests.integration.test_windows import publish_with_outcomes, transactions, with_visits
from topics.pipeline.schema import Pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

BAD = (17, 900, 901, 2500)
"""Rows of the file without an amount."""
UNLABELLED = (40, 1500)


@pytest.fixture(scope="module")
def by_terminals(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Windows by the partition key, by another key, and of outcomes."""
    home = tmp_path_factory.mktemp("terminals")
    return trained_small("card-fraud", home, rows=20_000, trees=3, edit=with_visits)


@pytest.fixture(scope="module")
def by_customers(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Windows by the partition key alone."""
    home = tmp_path_factory.mktemp("customers")
    return trained_small("card-fraud", home, rows=20_000, trees=3, edit=without_terminals)


@pytest.fixture(scope="module")
def by_visits(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Windows by another key, but none of outcomes."""
    home = tmp_path_factory.mktemp("visits")
    return trained_small("card-fraud", home, rows=20_000, trees=3, edit=with_visits_alone)


def with_visits_alone(content: Any) -> None:
    with_visits(content)
    without_terminals(content)


def without_terminals(content: Any) -> None:
    content["components"] = [c for c in content["components"] if c["name"] != "terminals"]
    for component in content["components"]:
        component["from"] = [name for name in component["from"] if name != "terminals"]
    content.pop("explain", None)


def in_disorder(labelled: Sequence[LabelledEvent]) -> list[LabelledEvent]:
    """The same with late rows: each some places off, some a day and more."""
    rng = random.Random(5)
    places = [at + rng.choice([0, 0, 0, rng.uniform(-30, 30)]) for at in range(len(labelled))]
    for at in range(100, len(labelled), 300):
        places[at] += 250
    return [row for _, row in sorted(zip(places, labelled, strict=True), key=lambda each: each[0])]


def written(path: Path, labelled: Sequence[LabelledEvent]) -> Path:
    rows = [
        {**each.event, "TX_FRAUD": None if at in UNLABELLED else int(each.label)}
        for at, each in enumerate(labelled)
    ]
    for at in BAD:
        rows[at]["amount"] = None
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def events_of(pipeline: Pipeline, path: Path) -> Iterator[tuple[dict[str, object], bool | None]]:
    """The rows and their labels, as `anabranch publish` has them."""
    for batch in event_rows(pipeline, str(path), now=str, labelled=True, unlabelled=True):
        assert batch.labels is not None
        assert batch.known is not None
        for event, label, known in zip(
            batch.events(), batch.labels.tolist(), batch.known.tolist(), strict=True
        ):
            yield event, (label if known else None)


async def published(broker: BrokerSettings, pipeline: Pipeline, path: Path) -> None:
    """As `anabranch publish` does it."""
    await publish_events(
        pipeline, broker, events_of(pipeline, path), None, None, None, None, outcomes=True,
        create_topics=True,
    )  # fmt: skip


async def check_same(trained: Trained, broker: BrokerSettings, path: Path, home: Path) -> None:
    """Decisions, scores, signals, features and dead letters, of the topics and of the file."""
    pipeline = trained.pipeline
    out, features = home / "scores.parquet", home / "features.parquet"
    summary = write_rows(trained.file, Scoring(trained.file, trained.registry), str(path), out)
    write_rows(trained.file, Extraction(trained.file, trained.registry), str(path), features)
    table = parquet.read_table(out)
    scored = {row["transaction_id"]: row for row in table.to_pylist()}
    decisions = {str(each["event_id"]): each for each in await decisions_of(broker, pipeline)}
    assert scored.keys() == decisions.keys()
    assert table["row"].to_pylist() == sorted(table["row"].to_pylist())
    for name, decision in decisions.items():
        check_decision(scored[name], decision)
    assert summary.rows == len(scored) + len(BAD)
    letters = await records_of(broker, Topology.of(pipeline).dead_letters)
    assert summary.dead == len(letters) == len(BAD)
    assert_same_letters(home / "scores.dead-letters.jsonl", letters)
    await check_features(trained, broker, features, decisions)


def check_decision(row: Mapping[str, Any], decision: Mapping[str, Any]) -> None:
    assert row["decision"] == decision["decision"]
    assert row["score"].hex() == decision["score"].hex()
    contributions = decision["contributions"]
    signals = {
        name.removeprefix("signal."): signal
        for name, signal in row.items()
        if name.startswith("signal.") and signal is not None
    }
    assert {name: signal.hex() for name, signal in signals.items()} == {
        name: said["signal"].hex() for name, said in contributions.items()
    }
    assert row["degraded"] == decision["degraded"]


def assert_same_letters(path: Path, letters: Sequence[Any]) -> None:
    mine = {each["event"]["transaction_id"]: each for each in map(json.loads, path.open())}
    assert {mine[name]["row"] - 1 for name in mine} == {*BAD}
    for letter in letters:
        own, headers = mine[json.loads(letter.value)["transaction_id"]], dict(letter.headers)
        for name, header in (("stage", "stage"), ("error", "class"), ("reason", "reason")):
            assert own[name] == headers[f"x-error-{header}"].decode()


async def check_features(
    trained: Trained, broker: BrokerSettings, path: Path, decisions: Mapping[str, Any]
) -> None:
    names = [spec.name for spec in trained.pipeline.components if spec.features is not None]
    served = await outputs_of(broker, trained, names)
    table = parquet.read_table(path)
    columns = [name for name in table.column_names if name.split(".")[0] in names]
    rows = {row["transaction_id"]: row for row in table.to_pylist()}
    assert rows.keys() == decisions.keys()
    for name, decision in decisions.items():
        source = decision["source"]["partition"], decision["source"]["offset"]
        own = [rows[name][column].hex() for column in columns]
        assert own == [value.hex() for value in served[source]]
    for column in columns:  # a column that says nothing proves nothing
        assert column.endswith("is_weekend") or len(set(table[column].to_pylist())) > 1, column


async def test_a_file_is_scored_as_a_running_pipeline_decides_it(
    by_terminals: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    labelled = transactions()
    path = written(tmp_path / "file.parquet", labelled)
    async with pipeline_running(by_terminals, broker):
        await published(broker, by_terminals.pipeline, path)
        await settled(broker, by_terminals.pipeline, len(labelled))
    await check_same(by_terminals, broker, path, tmp_path)


async def test_so_is_one_with_late_rows(
    by_customers: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    labelled = in_disorder(transactions())
    path = written(tmp_path / "file.parquet", labelled)
    async with pipeline_running(by_customers, broker):
        await published(broker, by_customers.pipeline, path)
        await settled(broker, by_customers.pipeline, len(labelled))
    await check_same(by_customers, broker, path, tmp_path)


async def test_windows_by_another_key_see_late_rows_as_where_the_whole_file_is_published_first(
    by_visits: Trained, broker: BrokerSettings, tmp_path: Path
) -> None:
    labelled = in_disorder(transactions())
    path = written(tmp_path / "file.parquet", labelled)
    events = [*events_of(by_visits.pipeline, path)]
    await publish_with_outcomes(broker, by_visits.pipeline, events, 1e9, most=500)
    async with pipeline_running(by_visits, broker):
        await settled(broker, by_visits.pipeline, len(labelled))
    await check_same(by_visits, broker, path, tmp_path)
