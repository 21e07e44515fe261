"""`evaluate` and `demo` where a stage is far slower than the file's deadline, fails, or dies."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from numpy.typing import NDArray
from pyarrow import parquet
from sklearn.metrics import average_precision_score, roc_auc_score

from agents.commands import labelled_events
from agents.components.catalogue import open_component
from agents.demo.evaluation_data import EvaluationEvent
from agents.demo.evaluation_stream import Evaluation, NotDecided
from agents.process.child_process import WorkerProcess, WorkersEnded
from agents.workers.stage_metrics import StageStats
from models.component import Batch, StageOutput
from models.features.windows import over_all_rows
from models.registry.registry import Registry
from tests.integration.harness import simulated
from tests.integration.test_cli import anabranch_in
from topics.pipeline.file import find_pipeline, load_pipeline
from topics.pipeline.schema import Pipeline
from topics.settings import BrokerSettings

ROWS_A_DAY = 200
DAYS = 12
ODD_AMOUNT, ODD_ROWS = 4096.0, 3
"""Of the last days, which nothing is trained on."""
STAGES = ["features", "risk-linear", "slow"]
DEADLINE_MS = 300
DAYS_ASKED = ("--train", "2018-04-01/7", "--delay", "2", "--test", "3")
FIRST_TEST_DAY = date(2018, 4, 10)
ODD = """
import os
import time

import numpy as np

from models.component import Batch, Component, StageOutput


class Odd(Component):
    \"\"\"Slow on every batch; an amount that it is told of makes it fail, or end its process.\"\"\"

    def __init__(self, seconds: float = 0, fails_at: float = -1, ends_at: float = -1) -> None:
        self._seconds, self._fails_at, self._ends_at = seconds, fails_at, ends_at

    def transform(self, batch: Batch) -> StageOutput:
        time.sleep(self._seconds)
        amounts = batch.matrix()[:, 0]
        if (amounts == self._ends_at).any():
            os._exit(7)
        if (amounts == self._fails_at).any():
            raise ValueError("that amount")
        return StageOutput.of_signal(np.clip(amounts / 500, 0, 1))
"""


@pytest.fixture(scope="module")
def transactions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve days of transactions; the last amount is negative, which no valid event has."""
    rng = np.random.default_rng(11)
    rows = ROWS_A_DAY * DAYS
    frauds = rng.random(rows) < 0.05
    amounts = np.round(rng.lognormal(3.5, 0.6, rows) * np.where(frauds, 2.0, 1.0), 2)
    amounts[-100 : ODD_ROWS - 100] = ODD_AMOUNT
    amounts[-1] = -1.0
    seconds = np.sort(rng.choice(DAYS * 86_400, rows, replace=False))
    folder = tmp_path_factory.mktemp("transactions")
    columns = {
        "TRANSACTION_ID": np.arange(rows),
        "TX_DATETIME": np.datetime64("2018-04-01", "s") + seconds.astype("timedelta64[s]"),
        "CUSTOMER_ID": rng.integers(0, 900, rows),
        "TERMINAL_ID": rng.integers(0, 50, rows),
        "TX_AMOUNT": amounts,
        "TX_FRAUD": frauds.astype(np.int64),
    }
    parquet.write_table(pa.table(columns), folder / "transactions.parquet")
    return folder


def pipeline_file(home: Path, **options: float) -> Path:
    """Card fraud with a component of one's own and a deadline that a busy machine misses."""
    content: dict[str, Any] = yaml.safe_load(find_pipeline("card-fraud").read_text())
    odd = {"name": "slow", "import": "odd:Odd", "options": options, "from": ["features"]}
    kept = [each for each in content["components"] if each["name"] in (*STAGES, "terminals")]
    content["components"] = [*kept, odd]
    content["outcomes"] = {"delay": "2d"}
    content["weighting"] = {"from": STAGES, "deadline_ms": DEADLINE_MS, "stall_timeout_s": 1}
    (home / "odd.py").write_text(ODD)
    path = home / "card-fraud.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def evaluated(home: Path, path: Path, data: Path) -> subprocess.CompletedProcess[str]:
    return anabranch_in(
        home, "evaluate", str(path), "--data", str(data), *DAYS_ASKED,
        "--registry", str(home / "registry"), "--json",
    )  # fmt: skip


def scores_without_kafka(
    pipeline: Pipeline, home: Path, data: Path
) -> tuple[Mapping[str, NDArray[np.float64]], NDArray[np.bool_]]:
    """What every stage, and their weighted sum, says of all valid rows at once; the tested rows."""
    read = labelled_events.from_file(pipeline, str(data / "transactions.parquet"))
    columns, labels, registry = read.columns, read.labels, Registry(home / "registry")
    made: dict[str, StageOutput] = {}
    for spec in pipeline.components:
        windows = over_all_rows(pipeline, spec.name, columns, labels) if spec.windowed else {}
        batch = Batch(len(labels), {**columns, **windows},
                      {name: made[name] for name in spec.inputs if name != "events"})  # fmt: skip
        made[spec.name] = open_component(pipeline, spec.name, registry, home).component.transform(
            batch
        )
    weights = registry.weights(pipeline.name).card.values
    signals = {name: made[name].signal.astype(np.float64) for name in STAGES}
    composed = np.zeros(len(labels))
    for name in STAGES:
        composed += weights[name] * signals[name]
    days = columns["occurred_at"] // 86_400_000
    first = (FIRST_TEST_DAY - date(1970, 1, 1)).days
    customers = columns["customer_id"]
    tested = days >= first
    for row in np.flatnonzero(tested):  # a fraud that is known by then takes its customer out
        known = labels & (days <= days[row] - 3) & (customers == customers[row])
        tested[row] = not known.any()
    return {"composed": composed, **signals}, tested


def test_a_slow_stage_costs_time_and_no_digit_of_the_figures(
    tmp_path: Path, transactions: Path
) -> None:
    path = pipeline_file(tmp_path, seconds=3 * DEADLINE_MS / 1000)
    done = evaluated(tmp_path, path, transactions)
    assert done.returncode == 0, done.stderr
    assert f"{path} says of late ones (weighting.deadline_ms {DEADLINE_MS})" in done.stderr
    content = json.loads(done.stdout)
    assert (content["decisions"], content["dead_letters"]) == (ROWS_A_DAY * DAYS - 1, 1)
    assert (content["unaccounted"], content["duplicates"], content["degraded"]) == (0, 0, 0)

    pipeline = load_pipeline(path).pipeline
    scores, tested = scores_without_kafka(pipeline, tmp_path, transactions)
    labels = labelled_events.from_file(
        pipeline, str(transactions / "transactions.parquet")
    ).labels[tested]  # fmt: skip
    assert content["tested"] == len(labels) + 1, "and the invalid one"
    labels = np.append(labels, [bool(parquet.read_table(transactions)["TX_FRAUD"][-1].as_py())])
    figures = {"composed": content, **content["rows"]}
    for name, values in scores.items():
        said = np.append(values[tested], [0.0])  # an event without a decision alarms nobody
        assert figures[name]["auc"] == roc_auc_score(labels, said), name
        assert figures[name]["average_precision"] == average_precision_score(labels, said), name


def test_a_demo_whose_stage_is_slow_degrades_nothing(tmp_path: Path) -> None:
    path = str(pipeline_file(tmp_path, seconds=3 * DEADLINE_MS / 1000))
    done = anabranch_in(tmp_path, "train", path, "--rows", "20000")
    assert done.returncode == 0, done.stderr
    done = anabranch_in(tmp_path, "demo", path, "--events", "3000", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert (content["events"], content["decisions"], content["degraded"]) == (3000, 3000, 0)


def test_there_are_no_figures_where_a_stage_fails_on_valid_events(
    tmp_path: Path, transactions: Path
) -> None:
    done = evaluated(tmp_path, pipeline_file(tmp_path, fails_at=ODD_AMOUNT), transactions)
    assert done.returncode == 1
    content = json.loads(done.stdout)
    assert "auc" not in content
    assert "rows" not in content
    assert content["degraded"] == ODD_ROWS
    said = f"{ODD_ROWS} were decided without a stage (slow {ODD_ROWS});"
    assert f"no figures: of {ROWS_A_DAY * DAYS:,} events {said}" in done.stderr


def test_workers_that_end_are_noticed_at_once(tmp_path: Path, transactions: Path) -> None:
    done = evaluated(tmp_path, pipeline_file(tmp_path, ends_at=ODD_AMOUNT), transactions)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "the process that runs the components ended with exit code 7" in done.stderr


@asynccontextmanager
async def silent_workers() -> AsyncIterator[WorkerProcess]:
    """A process that runs, and answers no event."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()",
                                                   stdin=subprocess.PIPE)  # fmt: skip
    try:
        yield WorkerProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def evaluation() -> Evaluation:
    pipeline = load_pipeline(find_pipeline("card-fraud")).pipeline
    events = [
        EvaluationEvent(key, value, json.loads(value)["occurred_at"], False)
        for key, value in simulated(pipeline, 50)
    ]
    return Evaluation(pipeline, events=events)


async def test_patience_ends_when_nothing_moves_and_not_while_anything_does(
    broker: BrokerSettings,
) -> None:
    async with silent_workers() as workers:
        stream = evaluation()
        moves = 0

        async def work() -> None:
            nonlocal moves
            for moves in range(1, 13):  # longer than the patience below, all in all
                await asyncio.sleep(0.5)
                workers.stages = {"features": StageStats(rows=moves, lag=3)}

        working = asyncio.create_task(work())
        with pytest.raises(NotDecided, match=r"50 events .* for 3 s .* features 3 records"):
            await stream.run(broker, workers, patience_s=3)
        await working
        assert moves == 12, "it had given up while the workers still worked"
    assert stream.shortfall().open == 50


async def test_a_worker_that_dies_in_mid_stream_ends_the_wait(broker: BrokerSettings) -> None:
    async with silent_workers() as workers:
        stream = evaluation()
        streaming = asyncio.create_task(stream.run(broker, workers))
        while stream.published < 50:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        os.kill(workers.process.pid, 9)
        with pytest.raises(WorkersEnded):
            await streaming
