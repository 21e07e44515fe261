"""From a user's own file to running decisions, with the file as messy as files are."""

from __future__ import annotations

import csv
import json
import math
import random
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.commands.init import init as init_command
from agents.commands.train import train_pipeline
from agents.publish import publisher as publishing
from agents.service.open_pipeline import is_trained
from models.data import event_rows
from models.registry.registry import Registry
from models.report.training_report import TrainingReport
from models.schema.feature_choice import auc
from models.training.export import ExportMismatch
from tests.integration.harness import Trained, decisions_of, pipeline_running, publish, settled
from tests.integration.test_cli import anabranch
from topics.pipeline.file import PipelineFile, load_pipeline
from topics.settings import BrokerSettings

ROWS = 1200
MISSING = ("", "NA", "null")


def messy_rows(seed: int = 3) -> list[dict[str, object]]:
    """Customers: a label in words, and something missing in every column but two."""
    rng = random.Random(seed)
    rows: list[dict[str, object]] = []
    for number in range(ROWS):
        contract = rng.choice(["monthly", "yearly", "two years, paid"])
        mood = rng.choice(["low", "medium", "high"])
        age = rng.randint(18, 80)
        risk = 2 * (contract == "monthly") - 2 * (mood == "high") + 2 * (age < 30) - 1
        begun = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=rng.randint(0, 36_000))
        row: dict[str, object] = {
            "Age": age if rng.random() < 0.9 else age + 0.5,
            "income (€)": round(math.exp(rng.gauss(9, 2)), 2),
            "Contract": contract,
            "signed up": begun.strftime("%d/%m/%Y"),
            "last-seen": begun.isoformat() if number % 2 else f"{begun:%Y-%m-%d %H:%M:%S}",
            "created_ms": int(begun.timestamp() * 1000),
            "Newsletter": rng.choice(["Yes", "no"]),
            "no": rng.choice(["a", "b"]),
            "客户": rng.randint(1, 5),
            "age": mood,
            "comment": f'he said "{number}",\nand left',
        }
        row = {name: rng.choice(MISSING) if rng.random() < 0.1 else v for name, v in row.items()}
        row["constant"] = "x"
        row["churned"] = "left" if rng.random() < 1 / (1 + math.exp(-2 * risk)) else "stayed"
        rows.append(row)
    rows.sort(key=lambda row: str(row["churned"]))
    return rows


def written(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def init(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`anabranch init` with *home* for its registry and its files."""
    nothing = load_pipeline(Path("deploy/pipelines/card-fraud.yaml"))
    trained = Trained(home, nothing, Registry(home / "registry"))
    return anabranch(trained, "init", *words, "--directory", str(home))


async def test_every_row_of_a_messy_file_is_decided_and_ranked(
    tmp_path: Path, broker: BrokerSettings
) -> None:
    rows = messy_rows()
    source = str(written(tmp_path / "churn.csv", rows))
    done = init(tmp_path, "churn", "--from", source, "--label", "churned", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["label"]["positive"] in ("left", "stayed")
    assert report["training"]["composed"]["auc"] > 0.7
    assert report["next"][0] == f"anabranch run {tmp_path / 'churn.yaml'}"

    file = load_pipeline(tmp_path / "churn.yaml")
    pipeline = file.pipeline
    assert (pipeline.event.id, pipeline.event.time) == ("row_number", "published_at")
    batches = event_rows(pipeline, source, now=lambda: "2024-01-01T00:00:00Z", labelled=False)
    events = [event for batch in batches for event in batch.events()]
    assert len(events) == ROWS
    assert any("age" not in event for event in events)
    async with pipeline_running(Trained(tmp_path, file, Registry(tmp_path / "registry")), broker):
        sent = [publishing.encoded(event, pipeline.event.key) for event in events]
        await publish(broker, pipeline, sent, 5000)
        audit = await settled(broker, pipeline, ROWS)
    assert (audit.total.decided, audit.total.dead, audit.total.lost) == (ROWS, 0, 0)

    import numpy as np

    decisions = await decisions_of(broker, pipeline)
    scores, outcomes = np.zeros(ROWS), np.zeros(ROWS, np.bool_)
    for place, decision in enumerate(decisions):
        row = rows[int(str(decision["event_id"])) - 1]
        scores[place] = float(str(decision["score"]))
        outcomes[place] = row["churned"] == report["label"]["positive"]
    assert auc(scores, outcomes) > 0.75
    assert {decision["decision"] for decision in decisions} == {"no", "review", "yes"}


@pytest.fixture
def plain(tmp_path: Path) -> str:
    """Rows that need nothing in particular."""
    rng = random.Random(1)
    numbers = [rng.gauss(0, 1) for _ in range(300)]
    rows: list[dict[str, object]] = [
        {"x": x, "bought": int(x + rng.gauss(0, 1) > 1)} for x in numbers
    ]
    return str(written(tmp_path / "plain.csv", rows))


def test_the_report_names_columns_label_figures_and_the_next_commands(
    tmp_path: Path, plain: str
) -> None:
    done = init(tmp_path, "shop", "--from", plain, "--label", "bought")
    assert done.returncode == 0, done.stderr
    for part in (
        "published_at", "positive is 1 (it means yes)", "dealt out at random",
        "shop.yaml written", "composed", "anabranch run", "anabranch publish",
    ):  # fmt: skip
        assert part in done.stdout
    policy = load_pipeline(tmp_path / "shop.yaml").pipeline.policy
    assert 0 < policy.thresholds["review"] < policy.thresholds["yes"] <= 1
    assert init(tmp_path, "shop2", "--from", plain, "--label", "bought").returncode == 0


def test_without_training_the_next_command_is_to_train(tmp_path: Path, plain: str) -> None:
    words = ("shop", "--from", plain, "--label", "bought", "--no-train", "--json")
    report = json.loads(init(tmp_path, *words).stdout)
    assert report["training"] is None
    assert report["next"][0].startswith("anabranch train ")
    assert not (tmp_path / "registry").exists()
    done = init(tmp_path, *words)
    assert done.returncode == 1
    assert "--force" in done.stderr
    assert init(tmp_path, *words, "--force").returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shop", "--from", "missing.csv", "--label", "bought"], "missing.csv: there is no such"),
        (["shop", "--from", "PLAIN", "--label", "buoght"], "did you mean 'bought'?"),
        (
            ["shop", "--from", "PLAIN", "--label", "x"],
            "apart and learns no amounts",
        ),
        (["My Shop", "--from", "PLAIN", "--label", "bought"], "for example 'my-shop'"),
    ],
)
def test_what_cannot_be_done_is_one_clear_message(
    tmp_path: Path, plain: str, words: list[str], message: str
) -> None:
    done = init(tmp_path, *(plain if word == "PLAIN" else word for word in words))
    assert done.returncode == 1
    assert message in done.stderr
    assert not list(tmp_path.glob("*.yaml"))


def test_data_that_bears_no_novelty_model_is_trained_without_one(
    tmp_path: Path, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(file: PipelineFile, *rest: Any, **options: Any) -> TrainingReport:
        if file.pipeline.component("features").model is not None:
            raise ExportMismatch("GaussianMixture", 0.5)
        return train_pipeline(file, *rest, **options)

    monkeypatch.setenv("ANABRANCH_HOME", str(tmp_path))
    monkeypatch.setattr("agents.commands.train.train_pipeline", failing)
    init_command("shop", data=plain, label="bought", directory=tmp_path)
    pipeline = load_pipeline(tmp_path / "shop.yaml").pipeline
    assert pipeline.component("features").model is None
    assert "features" not in pipeline.weighting.inputs
    assert is_trained(pipeline, Registry(tmp_path / "registry"))


def test_the_file_reads_as_if_written_by_hand(tmp_path: Path, plain: str) -> None:
    schema = Path("deploy/pipelines/pipeline.schema.json")
    (tmp_path / schema.name).write_text(schema.read_text())
    assert (
        init(tmp_path, "shop", "--from", plain, "--label", "bought", "--no-train").returncode == 0
    )
    text = (tmp_path / "shop.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=pipeline.schema.json\n")
    assert max(map(len, text.splitlines())) <= 100
    assert yaml.safe_load(text)["data"] == {
        "label": "bought", "row_number": "row_number", "published_at": "published_at",
    }  # fmt: skip
