"""The Python interface: frames in, frames of the same library out, and a pipeline that runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from nbclient import NotebookClient

from agents import Pipeline
from agents.notebook.running_pipeline import NotDecided, NotRunning
from models.data import MissingLabel
from models.data.frames import NotAFrame

NOTEBOOKS = sorted((Path(__file__).parents[2] / "deploy" / "notebooks").glob("*.ipynb"))
TRAINED, ALL = 260, 420


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Labelled rows, with an index of their own."""
    frame = Pipeline.load("tumour-triage").simulated(ALL).to_pandas()
    return frame.set_index(pd.Index(range(1000, 1000 + ALL)))


@pytest.fixture(scope="module")
def pipeline(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    pipeline = Pipeline.load("tumour-triage", registry=tmp_path_factory.mktemp("registry"))
    assert not pipeline.is_trained
    report = pipeline.train(rows[:TRAINED])
    assert pipeline.is_trained
    assert report.rows == TRAINED
    assert report.composed.auc is not None
    assert report.composed.auc > 0.9
    return pipeline


def test_frames_of_all_libraries_and_files_are_scored_alike(
    pipeline: Pipeline, rows: pd.DataFrame, tmp_path: Path
) -> None:
    later = rows[TRAINED:]
    path = tmp_path / "later.parquet"
    later.to_parquet(path, index=False)
    arrow = pa.Table.from_pandas(later, preserve_index=False)
    scored = pipeline.score(later)
    assert isinstance(scored, pd.DataFrame)
    others: list[Any] = [
        pipeline.score(pl.from_arrow(arrow)), pipeline.score(arrow), pipeline.score(path)
    ]  # fmt: skip
    assert [type(each) for each in others] == [pl.DataFrame, pa.Table, pa.Table]
    for each in others:
        assert each["score"].to_numpy().tobytes() == scored["score"].to_numpy().tobytes()
        assert each["decision"].to_pylist() == [*scored["decision"]] if hasattr(
            each["decision"], "to_pylist"
        ) else each["decision"].to_list() == [*scored["decision"]]  # fmt: skip


def test_each_row_has_its_row_also_one_that_is_no_event(
    pipeline: Pipeline, rows: pd.DataFrame
) -> None:
    later = rows[TRAINED:].copy()
    later.loc[later.index[3], "mean_radius"] = -1.0
    scored, whole = pipeline.score(later), pipeline.score(rows[TRAINED:])
    assert [*scored.index] == [*later.index]
    dead = scored.iloc[3]
    assert pd.isna(dead["score"])
    assert dead["dead_letter"].startswith("features: InvalidEvent: mean_radius")
    others = scored.index != later.index[3]
    assert (scored["score"][others] == whole["score"][others]).all()
    assert scored["dead_letter"][others].isna().all()


def test_features_are_those_of_the_events(pipeline: Pipeline, rows: pd.DataFrame) -> None:
    features = pipeline.features(rows)
    assert (features["features.mean_radius"] == rows["mean_radius"]).all()


def test_labelled_rows_judge_every_stage_and_the_whole(
    pipeline: Pipeline, rows: pd.DataFrame
) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    later = rows[TRAINED:]
    evaluation, scored = pipeline.evaluate(later), pipeline.score(later)
    truth = later["malignant"].to_numpy()
    assert evaluation.judged == len(later)
    assert evaluation.positives == truth.sum()
    stages = {name: f"signal.{name}" for name in evaluation.stages}
    for name, column in {**stages, "composed": "score"}.items():
        figures = {**evaluation.stages, "composed": evaluation.composed}[name]
        values = scored[column].to_numpy()
        assert figures["auc"].value == pytest.approx(roc_auc_score(truth, values))
        assert figures["average_precision"].value == pytest.approx(
            average_precision_score(truth, values)
        )
    urgent = scored["decision"].to_numpy() == "urgent"
    assert evaluation.composed["precision.urgent"].value == pytest.approx(truth[urgent].mean())
    assert evaluation.composed["recall.urgent"].value == pytest.approx(
        urgent[truth == 1].mean()
    )  # fmt: skip
    with pytest.raises(MissingLabel):
        pipeline.evaluate(later.drop(columns="malignant"))


def test_what_is_no_frame_is_refused(pipeline: Pipeline) -> None:
    for wrong in (17, [1, 2], {"a": 1}, None):
        with pytest.raises(NotAFrame, match="pandas or"):
            pipeline.score(wrong)


def test_a_running_pipeline_decides_to_the_bit_what_it_scores(
    pipeline: Pipeline, rows: pd.DataFrame
) -> None:
    later = rows[TRAINED:].copy()
    later.loc[later.index[3], "mean_radius"] = -1.0
    with pipeline.running() as running:
        assert running.publish(later) == len(later)
        decisions = running.decisions()
        letters = running.dead_letters()
        event = {**rows.iloc[0].drop("malignant").to_dict(), "referral_id": "one-more"}
        assert running.publish([event]) == 1
        assert [*running.decisions()["event_id"]] == ["one-more"]
        running.publish([event])
        with pytest.raises(NotDecided):
            running.decisions(timeout_s=0.0)
        running.decisions()
    scored = pipeline.score(later).dropna(subset="score").set_index("referral_id")
    streamed = decisions.set_index("event_id").loc[scored.index]
    for column in ("score", "signal.risk-forest", "signal.decision"):
        assert (streamed[column].to_numpy() == scored[column].to_numpy()).all()
    assert [*streamed["decision"]] == [*scored["decision"]]
    assert [letter["error"] for letter in letters] == ["InvalidEvent"]
    with pytest.raises(NotRunning):
        running.publish(later)


def test_asking_for_the_interface_loads_it_only_then() -> None:
    code = "import agents, sys; assert 'agents.notebook' not in sys.modules; agents.Pipeline"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_of_the_documentation_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # it has no types
    shown = [[*cell.outputs] for cell in notebook.cells if cell.cell_type == "code"]
    assert all(shown), "it is kept with what its cells show"
    client = NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    last = notebook.cells[-1].outputs[-1]
    assert last["data"]["text/plain"] == "True", "the stream and the frame, to the bit"
