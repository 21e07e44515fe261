"""Whatever is wrong with training data: one line that says it, exit code 1, nothing registered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.test_cli import anabranch_in

ROWS = 400
HEAD = "id,when,customer,amount,speed,fraud"
PIPELINE = """
pipeline: bad
event:
  id: id
  key: customer
  time: when
  fields:
    id: {type: string}
    when: {type: timestamp}
    customer: {type: string}
    amount: {type: number}
    speed: {type: number}
data: {label: fraud}
components:
  - name: features
    kind: extract_features
    from: [events]
    features:
      - {name: amount, of: amount}
      - {name: speed, of: speed}
    model: {estimator: sklearn.ensemble.IsolationForest, parameters: {n_estimators: 10}}
  - name: risk
    kind: assess_risk
    from: [features]
    model: {estimator: sklearn.linear_model.LogisticRegression}
weighting:
  from: [features, risk]
policy:
  thresholds: {review: 0.5}
"""


def rows(**columns: Callable[[int], object]) -> Iterator[list[object]]:
    """Good rows, but for the *columns* given as functions of the row's number."""
    rng = np.random.default_rng(0)
    for row in range(ROWS):
        good: dict[str, object] = {
            "id": f"t{row}", "when": f"2024-01-01T00:{row // 60:02d}:{row % 60:02d}Z",
            "customer": f"c{row % 9}", "amount": round(rng.random() * 100, 2),
            "speed": round(rng.random(), 3), "fraud": int(rng.random() < 0.2),
        }  # fmt: skip
        yield [columns[name](row) if name in columns else good[name] for name in good]


def csv(path: Path, head: str = HEAD, **columns: Callable[[int], object]) -> Path:
    lines = [head, *(",".join(map(str, row)) for row in rows(**columns))]
    path.write_text("\n".join(lines) + "\n")
    return path


def content(name: str, text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return write


def table(head: str = HEAD, **columns: Callable[[int], object]) -> Callable[[Path], Path]:
    return lambda folder: csv(folder / "data.csv", head, **columns)


def nan_parquet(folder: Path) -> Path:
    columns = dict(zip(HEAD.split(","), zip(*rows(amount=lambda _: float("nan")), strict=True),
                       strict=True))  # fmt: skip
    pq.write_table(
        pa.table({name: list(each) for name, each in columns.items()}), folder / "n.parquet"
    )
    return folder / "n.parquet"


def huge_parquet(folder: Path) -> Path:
    """A hundred million rows, of the same values over and over."""
    columns = dict(zip(HEAD.split(","), next(rows()), strict=True))
    group = pa.table({
        name: pa.DictionaryArray.from_arrays(np.zeros(1_000_000, np.int8), pa.array([value]))
        for name, value in columns.items()
    })  # fmt: skip
    with pq.ParquetWriter(folder / "huge.parquet", group.schema) as writer:
        for _ in range(100):
            writer.write_table(group)
    return folder / "huge.parquet"


def huge_csv(folder: Path) -> Path:
    """A terabyte that takes no room on the disk: nothing is behind its first rows."""
    path = csv(folder / "huge.csv")
    path.write_text(path.read_text() * 60)  # more than is looked at
    with path.open("r+b") as file:
        file.truncate(1 << 40)
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty CSV": (content("e.csv", ""), "e.csv: cannot be read: Empty CSV file"),
    "empty JSON lines": (content("e.jsonl", ""), "e.jsonl: cannot be read: it is empty"),
    "empty Parquet": (content("e.parquet", ""), "e.parquet: cannot be read: .*0 bytes"),
    "header only": (content("h.csv", HEAD + "\n"), "the data has no rows"),
    "no such file": (lambda folder: folder / "no.csv", "no.csv: there is no such file"),
    "no Parquet": (content("n.parquet", "no\n" * 99), "n.parquet: cannot be read: Parquet magic"),
    "no JSON": (content("n.jsonl", '{"id": 1}\nno\n'), "n.jsonl:2: cannot be read"),
    "unknown format": (content("data.txt", HEAD), "must end in one of .csv, .jsonl, .parquet"),
    "torn row": (content("t.csv", HEAD + "\n1,2\n"), "Expected 6 columns, got 2"),
    "few rows": (content("f.csv", HEAD + "\nt,2024-01-01T00:00:00Z,c,1,1,1\n"), "only 1 rows"),
    "one class": (table(fraud=lambda _: 0), "all 400 labels are 0: give rows of both"),
    "one class for long": (
        table(fraud=lambda row: int(row > 390)), "all labels are 0 in rows 0 to 239, the block A"
    ),
    "no label column": (table(HEAD.replace("fraud", "other")), "no label column fraud; .* other"),
    "label of three values": (table(fraud=lambda row: row % 3), "row 3 has 2"),
    "label missing in a row": (
        table(fraud=lambda row: "" if row == 7 else row % 2), "row 8 has no value"
    ),
    "field missing": (table(HEAD.replace("speed", "pace")), "no column for the event field speed"),
    "NaN column": (table(amount=lambda _: "nan"), "all 400 rows .* amount: has no value"),
    "NaN column in Parquet": (nan_parquet, "all 400 rows are invalid events"),
    "infinite column": (table(amount=lambda _: "inf"), "all 400 rows are invalid events"),
    "text in a number": (
        table(amount=lambda _: "much"), "all 400 rows are invalid .* amount: .* a valid number"
    ),
    "beyond float32": (table(amount=lambda _: 1e300), "all 400 rows are invalid .* beyond ±3.4e38"),
    "nothing but constants": (
        table(amount=lambda _: 5, speed=lambda _: 1), "each of 2 columns to fit on .amount, speed."
    ),
    "a hundred million rows": (huge_parquet, "100,000,000 rows need about .* GiB .* at most"),
    "a terabyte": (huge_csv, "huge.csv: about .* rows need about .* GiB of memory"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_data_is_one_line_and_nothing_is_registered(kind: str, tmp_path: Path) -> None:
    make, message = BAD[kind]
    pipeline, data = tmp_path / "bad.yaml", make(tmp_path)
    pipeline.write_text(PIPELINE)
    refused(tmp_path, message, "train", str(pipeline), "--data", str(data))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        ("sklearn.svm.LinearSVC", "gives no signal: it is neither a classifier with predict_proba"),
        ("sklearn.linear_model.RidgeClassifier", "gives no signal"),
        ("sklearn.linear_model.LinearRegression", "gives no signal"),
        ("sklearn.preprocessing.StandardScaler", "gives no signal"),
        ("sklearn.linear_model.NoSuchModel", "cannot be loaded"),
        ("os.path", "cannot be loaded: it is not a scikit-learn estimator class"),
    ],
)
def test_a_bad_estimator_is_one_line_and_nothing_is_registered(
    estimator: str, message: str, tmp_path: Path
) -> None:
    pipeline, data = tmp_path / "bad.yaml", csv(tmp_path / "data.csv")
    pipeline.write_text(PIPELINE.replace("sklearn.linear_model.LogisticRegression", estimator))
    refused(tmp_path, message, "train", str(pipeline), "--data", str(data))


@pytest.mark.parametrize(
    ("place", "message"),
    [("report.txt", "must end in .html"), ("bad.yaml/report.html", "cannot be written there")],
)
def test_a_bad_place_for_the_report_is_found_before_training(
    place: str, message: str, tmp_path: Path
) -> None:
    pipeline, data = tmp_path / "bad.yaml", csv(tmp_path / "data.csv")
    pipeline.write_text(PIPELINE)
    report = str(tmp_path / place)
    refused(tmp_path, message, "train", str(pipeline), "--data", str(data), "--report", report)


def refused(folder: Path, message: str, *words: str) -> None:
    done = anabranch_in(folder / "home", *words)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert re.search(message, line), line
    told = done.stderr.splitlines()
    assert told[-1] == line, "nothing behind it"
    assert [each for each in (folder / "home").rglob("*") if each.is_file()] == []


def test_some_bad_rows_and_a_constant_column_are_said_and_trained_without(tmp_path: Path) -> None:
    pipeline = tmp_path / "bad.yaml"
    pipeline.write_text(PIPELINE)
    data = csv(tmp_path / "data.csv", amount=lambda _: 5, speed=lambda row: row % 5 or "")
    page = tmp_path / "report.html"
    done = anabranch_in(
        tmp_path / "home", "train", str(pipeline), "--data", str(data), "--report", str(page)
    )
    assert done.returncode == 0, done.stderr
    assert "80 of 400 rows are left out" in done.stderr
    assert "speed: has no value" in done.stderr
    assert "amount has one value only" in done.stderr
    assert page.read_text().startswith("<!doctype html>")
    assert page.with_suffix(".json").is_file()
