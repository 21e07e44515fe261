"""`anabranch evaluate` on a small file, and its protocol on the handbook's own data."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from models.report.handbook import BOOK_WEEKS, OutcomeColumns, protocol_figures, train_rows
from models.report.handbook import test_rows as rows_to_test
from tests.integration.handbook import folder as folder_of_handbook
from tests.integration.harness import Trained
from tests.integration.test_cli import anabranch

ROWS_A_DAY = 200
DAYS = 12
FIGURES = ["auc", "average_precision", "card_precision_100"]
STAGES = ["features", "risk-linear", "risk-forest", "decision"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve days of transactions; one amount is negative, which no valid event has."""
    rng = np.random.default_rng(3)
    rows = ROWS_A_DAY * DAYS
    frauds = rng.random(rows) < 0.05
    amounts = np.round(rng.lognormal(3.5, 0.6, rows) * np.where(frauds, 4.0, 1.0), 2)
    amounts[-1] = -1.0
    seconds = np.sort(rng.integers(0, DAYS * 86_400, rows))
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


def test_decisions_of_the_test_days_are_scored_for_every_stage(
    trained: Trained, folder: Path
) -> None:
    done = anabranch(
        trained, "evaluate", str(trained.file.path), "--data", str(folder),
        "--train", "2018-04-01/7", "--delay", "2", "--test", "3",
        "--events-from", "2018-04-06", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert list(content)[:4] == [*FIGURES, "rows"]
    assert list(content["rows"]) == STAGES
    assert all(list(row) == FIGURES for row in content["rows"].values())
    assert content["auc"] > 0.8
    assert content["rows"]["risk-linear"]["auc"] > 0.8
    events = pq_rows(folder, date(2018, 4, 6))
    assert content["events"] == events
    assert (content["decisions"], content["dead_letters"]) == (events - 1, 1)
    assert (content["unaccounted"], content["duplicates"], content["degraded"]) == (0, 0, 0)
    assert not list(trained.home.glob("registry/card-fraud/features/2"))


def pq_rows(folder: Path, first: date) -> int:
    times = parquet.read_table(folder / "transactions.parquet")["TX_DATETIME"].to_numpy()
    return int((times >= np.datetime64(first)).sum())


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--train", "2018-03-01/7"], 1, "the training days, 2018-03-01 to 2018-03-07, are not"),
        (["--train", "2018-04-01/7", "--delay", "7"], 1, "the test days, 2018-04-15 to"),
        (["--train", "2018-04-01"], 2, "is not START/DAYS"),
        (["--train", "April/7"], 2, "is not a date like 2018-07-25"),
        (["--data", "/nowhere"], 1, "/nowhere"),
    ],
)
def test_days_and_places_that_are_wrong_are_an_error(
    words: list[str], code: int, message: str, trained: Trained, folder: Path
) -> None:
    done = anabranch(trained, "evaluate", str(trained.file.path), "--data", str(folder), *words)
    assert done.returncode == code
    assert message in done.stderr


@pytest.mark.handbook
def test_the_protocol_gives_the_handbook_s_figures_on_its_own_features() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    handbook = folder_of_handbook()
    transactions = parquet.read_table(handbook / "transactions.parquet")
    features = parquet.read_table(handbook / "features.parquet")
    transactions = transactions.slice(len(transactions) - len(features))
    ids = [table["TRANSACTION_ID"].to_numpy() for table in (transactions, features)]
    assert np.array_equal(*ids)
    inputs = [transactions["TX_AMOUNT"].to_numpy()]
    inputs += [features[n].to_numpy() for n in features.column_names if n != "TRANSACTION_ID"]
    x = np.column_stack(inputs)
    outcomes = OutcomeColumns(
        transactions["TX_DATETIME"].to_numpy().astype("datetime64[D]").astype(np.int64),
        transactions["CUSTOMER_ID"].to_numpy().astype(object),
        transactions["TX_FRAUD"].to_numpy().astype(np.bool_),
    )
    train, test = train_rows(outcomes, BOOK_WEEKS), rows_to_test(outcomes, BOOK_WEEKS)
    counts = [int(of[rows].sum()) for rows in (train, test) for of in (rows, outcomes.labels)]
    assert counts == [67_240, 598, 58_264, 385]

    scaler = StandardScaler().fit(x[train])
    model = LogisticRegression(max_iter=1000).fit(
        scaler.transform(x[train]), outcomes.labels[train]
    )
    found = protocol_figures(
        outcomes.of(test), model.predict_proba(scaler.transform(x[test]))[:, 1]
    )
    assert found.auc == pytest.approx(0.870, abs=0.001)
    assert found.average_precision == pytest.approx(0.605, abs=0.001)
    assert found.card_precision_100 == pytest.approx(0.291, abs=0.001)
