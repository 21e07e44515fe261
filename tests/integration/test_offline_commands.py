"""`anabranch score`, `features` and `evaluate FILE`: files in, files out, nothing lost."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from typer.testing import CliRunner, Result

from agents.cli import app
from agents.components import open_component
from agents.offline import FileEvents, Scoring
from agents.offline.errors import NothingToJudge, OutOfTimeOrder, OutputExists, OutputNotWritable
from agents.offline.offline_run import OfflineRun
from models.data import MissingLabel
from models.registry import Registry
from topics.errors import AnabranchError
from topics.pipeline import load_pipeline

PIPELINE = """
pipeline: thrift
partitions: 3
event:
  id: id
  key: who
  time: at
  fields:
    id: {type: string}
    who: {type: string}
    where: {type: string}
    at: {type: timestamp}
    amount: {type: number, minimum: 0}
    score: {type: number, optional: true}
data: {label: bad}
outcomes: {delay: 1h}
components:
  - name: own
    kind: extract_features
    from: [events]
    features: [{name: amount, of: amount}, {name: seen, apply: count, over: [1h]}]
  - name: places
    kind: extract_features
    from: [events]
    key: where
    features: [{name: visits, apply: count, over: [1h]}]
  - {name: share, import: tests.integration.test_offline_commands.Share, from: [own, places]}
weighting: {from: [share], weights: {share: 1.0}}
policy:
  version: 1
  otherwise: approve
  thresholds: {review: 0.5}
  costs:
    approve: {positive: 10, negative: 0}
    review: {positive: 1, negative: 1}
"""


from models.component import Batch, Component, StageOutput  # noqa: E402  # what the file names


class Share(Component):
    """A thousandth of the amount; more than 900 is beyond it."""

    def load(self) -> None:
        """Nothing."""

    def transform(self, batch: Batch) -> StageOutput:
        amount = batch.inputs["own"].output[:, 0]
        if (amount > 900).any():
            raise ValueError("too much")
        return StageOutput(amount[:, None], (amount / 1000).astype(np.float32))


def row(number: int, **others: object) -> dict[str, Any]:
    return {
        "id": f"e{number}", "who": f"w{number % 5}", "where": f"p{number % 3}",
        "at": f"2026-01-01T{number // 60:02d}:{number % 60:02d}:00Z", "amount": number % 900,
        "bad": int(number % 900 > 450), **others,
    }  # fmt: skip


def at(number: int) -> str:
    """So many seconds later."""
    return f"{np.datetime64('2026-01-01T00:00:00') + number}Z"


def whose(event: dict[str, Any]) -> str:
    return str(event["who"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "thrift.yaml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANABRANCH_HOME", str(tmp_path / "home"))
    return tmp_path


def lines(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    return path


def call(*words: str | Path, stdin: str | None = None) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, [*map(str, words)], input=stdin)


def done(*words: str | Path, stdin: str | None = None) -> str:
    result = call(*words, stdin=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def error(*words: str | Path) -> AnabranchError:
    result = call(*words)
    assert isinstance(result.exception, AnabranchError), result.output
    return result.exception


def test_every_row_ends_in_the_output_or_among_the_dead_letters(home: Path) -> None:
    rows = [row(number) for number in range(600)]
    rows[7]["amount"], rows[8]["amount"], rows[300]["at"] = -1, "lots", "yesterday"
    rows[400]["amount"], rows[401]["who"] = 950, None
    lines(home / "in.jsonl", rows)
    summary = json.loads(done("score", "thrift.yaml", "in.jsonl", "-o", "out.parquet", "--json"))
    assert (summary["rows"], summary["written"], summary["dead"]) == (600, 595, 5)
    assert summary["errors"] == {"InvalidEvent": 4, "ValueError": 1}
    assert sum(summary["decisions"].values()) == 595
    letters = [json.loads(line) for line in (home / "out.dead-letters.jsonl").open()]
    assert [letter["row"] for letter in letters] == [8, 9, 301, 401, 402]
    assert [letter["stage"] for letter in letters] == ["own"] * 3 + ["share", "own"]
    assert letters[1]["event"]["amount"] == "lots"
    table = parquet.read_table(home / "out.parquet")
    numbers = {*table["row"].to_pylist()} | {letter["row"] for letter in letters}
    assert numbers == {*range(1, 601)}
    assert table["row"].to_pylist() == sorted(table["row"].to_pylist())
    assert "field.score" in table.column_names  # an event's field that is called like ours


def test_windows_by_the_key_and_by_another_see_what_was_before(home: Path) -> None:
    rows = [row(number) for number in range(200)]
    lines(home / "in.jsonl", rows)
    done("features", "thrift.yaml", "in.jsonl", "-o", "out.jsonl")
    for number, line in enumerate((home / "out.jsonl").open()):
        features, before = json.loads(line), rows[max(0, number - 59) : number + 1]
        for name, field in (("own.seen_1h", "who"), ("places.visits_1h", "where")):
            like = sum(each[field] == rows[number][field] for each in before)
            assert features[name] == like, (number, name)


def test_all_formats_say_the_same(home: Path) -> None:
    lines(home / "in.jsonl", [row(number) for number in range(50)])
    for name in ("out.parquet", "out.csv", "out.jsonl"):
        done("score", "thrift.yaml", "in.jsonl", "-o", name)
    table = parquet.read_table(home / "out.parquet").to_pylist()
    read = [*csv.DictReader((home / "out.csv").open())]
    assert [float(each["score"]) for each in read] == [each["score"] for each in table]
    assert [each["decision"] for each in read] == [each["decision"] for each in table]
    assert read[0]["at"] == "2026-01-01T00:00:00.000Z"
    said = [json.loads(line) for line in (home / "out.jsonl").open()]
    assert [each["score"] for each in said] == [each["score"] for each in table]


def test_lines_on_standard_input_are_scored_too(home: Path) -> None:
    text = "".join(json.dumps(row(number)) + "\n" for number in range(20))
    assert "20 of 20 rows" in done("score", "thrift.yaml", "-", "-o", "out.csv", stdin=text)


def test_one_cell_of_a_csv_file_costs_its_row(home: Path) -> None:
    rows = [row(number) for number in range(20)]
    rows[4]["amount"] = "lots"
    with (home / "in.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    out = done("score", "thrift.yaml", "in.csv", "-o", "out.csv")
    assert "19 of 20 rows" in out
    assert "1 dead letters" in out


def test_nothing_is_overwritten_unasked_and_old_letters_do_not_stay(home: Path) -> None:
    lines(home / "bad.jsonl", [row(1), row(2, amount=-1)])
    lines(home / "good.jsonl", [row(1), row(2)])
    done("score", "thrift.yaml", "bad.jsonl", "-o", "out.csv")
    assert isinstance(error("score", "thrift.yaml", "good.jsonl", "-o", "out.csv"), OutputExists)
    done("score", "thrift.yaml", "good.jsonl", "-o", "out.csv", "--force")
    assert not (home / "out.dead-letters.jsonl").exists()


def test_the_file_that_is_read_is_never_overwritten(home: Path) -> None:
    path = lines(home / "in.jsonl", [row(number) for number in range(3)])
    content = path.read_text()
    words = ("score", "thrift.yaml", "in.jsonl", "-o")
    assert "the file that is read" in str(error(*words, "./in.jsonl", "--force"))
    letters = lines(home / "out.dead-letters.jsonl", [row(1)])
    found = error("score", "thrift.yaml", str(letters), "-o", "out.csv", "--force")
    assert "the file that is read" in str(found)
    assert path.read_text() == content


def test_a_file_that_breaks_off_leaves_no_output(home: Path) -> None:
    path = lines(home / "in.jsonl", [row(number) for number in range(30)])
    path.write_text(path.read_text() + "no json\n")
    error("score", "thrift.yaml", "in.jsonl", "-o", "out.csv")
    assert {each.name for each in home.iterdir()} <= {"thrift.yaml", "in.jsonl", "home"}


@pytest.mark.parametrize("name", ["out.xlsx", "out", "in.jsonl/out.csv"])
def test_a_place_that_cannot_be_written_is_said_before_anything_is_read(
    home: Path, name: str
) -> None:
    lines(home / "in.jsonl", [row(1)])
    assert isinstance(error("score", "thrift.yaml", "in.jsonl", "-o", name), OutputNotWritable)


def test_a_labelled_file_judges_the_pipeline(home: Path) -> None:
    lines(home / "in.jsonl", [row(number) for number in range(800)])
    said = json.loads(done("evaluate", "thrift.yaml", "in.jsonl", "--json"))
    assert said["judged"] == 800
    assert said["composed"]["auc"]["value"] == 1.0
    assert said["composed"]["recall.review"]["value"] == pytest.approx(300 / 349)
    assert said["composed"]["precision.review"]["value"] == 1.0
    # 49 are approved though they are bad, at 10 each; 300 are reviewed, at 1 each.
    assert said["composed"]["cost"]["value"] == pytest.approx((49 * 10 + 300) / 800)
    shown = done("evaluate", "thrift.yaml", "in.jsonl", "--plot", home / "plot.png")
    assert max(map(len, shown.splitlines())) <= 80
    assert re.search(r"composed\s+1\.000", shown)
    assert (home / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_judged_is_said(home: Path) -> None:
    lines(home / "same.jsonl", [row(number, bad=0) for number in range(20)])
    assert isinstance(error("evaluate", "thrift.yaml", "same.jsonl"), NothingToJudge)
    lines(home / "none.jsonl", [{**row(1), "bad": None}, row(2, amount=-1)])
    assert "both a decision and an outcome" in str(error("evaluate", "thrift.yaml", "none.jsonl"))
    without = {name: value for name, value in row(1).items() if name != "bad"}
    lines(home / "without.jsonl", [without])
    assert isinstance(error("evaluate", "thrift.yaml", "without.jsonl"), MissingLabel)
    both = call("evaluate", "thrift.yaml", "same.jsonl", "--data", "same.jsonl")
    assert both.exit_code == 2
    assert call("evaluate", "thrift.yaml").exit_code == 2


def test_rows_that_wait_too_long_for_others_are_refused_with_what_to_do(home: Path) -> None:
    # Sorted by key: each partition's rows wait for those of the next one.
    rows = sorted((row(number, at=at(number)) for number in range(30_000)), key=whose)
    lines(home / "in.jsonl", rows)
    file = load_pipeline(home / "thrift.yaml")
    components = {
        name: open_component(file.pipeline, name, Registry(home), home)
        for name in ("own", "places")
    }
    run = OfflineRun(file.pipeline, components, most_waiting=9000)
    with pytest.raises(OutOfTimeOrder, match="Sort the file by at"):
        [*run.run(FileEvents(file.pipeline, str(home / "in.jsonl")))]


def test_partitions_without_rows_hold_nobody_up(home: Path) -> None:
    # All of one key: the other partitions never get any, and nobody waits for that to end.
    lines(home / "in.jsonl", [row(n, who="w1", at=at(n)) for n in range(30_000)])
    file = load_pipeline(home / "thrift.yaml")
    components = {
        name: open_component(file.pipeline, name, Registry(home), home)
        for name in ("own", "places")
    }
    run = OfflineRun(file.pipeline, components, most_waiting=12_000)
    done_rows = sum(
        len(each.chunk.events)
        for each in run.run(FileEvents(file.pipeline, str(home / "in.jsonl")))
    )
    assert done_rows == 30_000


def test_an_untrained_pipeline_says_so_before_the_file_is_read(home: Path) -> None:
    with pytest.raises(AnabranchError, match="anabranch train"):
        Scoring(load_pipeline(Path(find("card-fraud"))), Registry(home / "empty"))


def find(name: str) -> str:
    from topics.pipeline import find_pipeline

    return str(find_pipeline(name))
