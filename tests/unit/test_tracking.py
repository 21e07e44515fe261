"""Each tracker writes down the same run, so that its own reader finds it again."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import get_args

import pytest

from models.report import tracking
from models.report.ablation import StageLoss
from models.report.decision_costs import PolicyResult
from models.report.quality import Curves, Quality
from models.report.tracking import (
    RUNS_FILE,
    Tracker,
    TrackerName,
    TrackingFailed,
    check_tracker,
    metrics_of,
    track,
)
from models.report.training_report import (
    ComponentReport,
    ComposedReport,
    Cutoffs,
    HeldOutReport,
    TrainingReport,
)
from topics.errors import MissingExtra

PARAMS: dict[str, tracking.Param] = {"seed": 3, "data": "a.csv", "weights": None}
GOOD = Quality(auc=0.9, average_precision=0.5, log_loss=0.02, brier=0.003, calibration_error=0.001)
REPORT = TrainingReport(
    pipeline="card-fraud", rows=1000, positives=10,
    components={"risk": ComponentReport(**GOOD.model_dump(), version=1, digest="sha256:0")},
    weights={"risk": 1.0}, weights_version=1, composed=ComposedReport(**GOOD.model_dump()),
    cutoffs=Cutoffs(as_many=0.5, twice_as_many=0.2),
    held_out=HeldOutReport(
        rows=100, positives=2, costs=None,
        curves={"composed": Curves(roc=[], precision_recall=[], reliability=[])},
        left_out={"risk": StageLoss(auc=0.1, average_precision=0, log_loss=0, log_loss_error=0)},
        policy=PolicyResult(thresholds={}, decisions={}, cost=None),
    ),
    seconds=1.5,
)  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "made" / "report.html"
    path.parent.mkdir()
    path.write_text("<!doctype html>")
    return path


def test_metrics_are_named_by_what_they_are_of() -> None:
    found = metrics_of(REPORT)
    assert found["composed/auc"] == 0.9
    assert found["risk/log_loss"] == 0.02
    assert found["risk/weight"] == 1.0
    assert found["risk/adds_auc"] == 0.1
    assert found["rows"] == 1000


def test_a_run_is_a_json_line_behind_those_before_it(tmp_path: Path, page: Path) -> None:
    for _ in range(2):
        track("json", tmp_path / "home", REPORT, PARAMS, [page])
    lines = (tmp_path / "home" / RUNS_FILE).read_text().splitlines()
    assert len(lines) == 2
    run = json.loads(lines[1])
    assert (run["pipeline"], run["params"]) == ("card-fraud", PARAMS)
    assert run["metrics"] == metrics_of(REPORT)
    assert run["artifacts"] == [str(page)]
    assert datetime.fromisoformat(run["at"]).tzinfo is not None


def test_tensorboard_finds_the_run(tmp_path: Path, page: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track("tensorboard", tmp_path, REPORT, PARAMS, [page])
    (folder,) = (tmp_path / "tensorboard" / "card-fraud").iterdir()
    found = EventAccumulator(str(folder))
    found.Reload()
    scalars = {tag: found.Scalars(tag)[0].value for tag in found.Tags()["scalars"]}
    assert scalars == pytest.approx(metrics_of(REPORT))
    texts = {tag: found.Tensors(tag)[0].tensor_proto.string_val for tag in found.Tags()["tensors"]}
    assert b"| seed | 3 |" in texts["params"][0]
    assert texts["artifacts/report.html"] == [str(page).encode()]


def test_mlflow_finds_the_run(tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for _ in range(2):
        track("mlflow", tmp_path, REPORT, PARAMS, [page])
    client = mlflow.MlflowClient(tracking_uri=store_of(tmp_path))
    experiment = client.get_experiment_by_name("card-fraud")
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    assert runs[0].data.metrics == pytest.approx(metrics_of(REPORT))
    assert runs[0].data.params == {name: str(value) for name, value in PARAMS.items()}
    assert [each.path for each in client.list_artifacts(runs[0].info.run_id)] == ["report.html"]


def store_of(home: Path) -> str:
    from models.report.mlflow_run import store_in

    return store_in(home)


def test_wandb_writes_an_offline_run(
    tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    track("wandb", tmp_path, REPORT, PARAMS, [page])
    (written,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    metrics, artifacts, config = {}, [], {}
    for content in logged(written.read_bytes()):
        record = Record.FromString(content)
        for item in record.history.item:
            metrics["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
        for item in [*record.run.config.update, *record.config.update]:
            config[item.key] = json.loads(item.value_json)
        if record.HasField("artifact") or record.request.HasField("log_artifact"):
            artifacts.append(record)
    assert {name: metrics[name] for name in metrics_of(REPORT)} == pytest.approx(metrics_of(REPORT))
    assert config.items() >= PARAMS.items()
    assert artifacts


def logged(content: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log with a header of 7 bytes: blocks of 32 KiB, parts in them."""
    at, whole = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        _, size, kind = struct.unpack_from("<IHB", content, at)
        whole += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or its last part
            yield whole
            whole = b""


@pytest.mark.parametrize("name", [each for each in get_args(TrackerName) if each != "json"])
def test_a_missing_package_is_one_line_that_names_the_extra(
    name: TrackerName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda _package: None)
    with pytest.raises(MissingExtra, match=rf"--track {name} needs .*anabranch\[{name}\]"):
        check_tracker(name)
    check_tracker("json")


def test_a_tracker_that_fails_says_that_the_models_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def failing(_home: Path, _pipeline: str, _began: datetime) -> Iterator[Tracker]:
        raise ConnectionError("nobody\nthere")
        yield

    monkeypatch.setattr(tracking, "json_run", failing)
    with pytest.raises(TrackingFailed, match="ConnectionError: nobody there; the models are"):
        track("json", tmp_path, REPORT, PARAMS, [])
