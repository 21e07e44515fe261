"""Experiment tracking: what a training was given and what it reached, kept where you look for it.

Behind one small interface: a JSON line for each run (the default), or TensorBoard, Weights &
Biases or MLflow, each an extra, each writing to files: no server, no account, no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

import orjson

from models.report.training_report import TrainingReport
from topics.errors import AnabranchError, MissingExtra

TrackerName = Literal["json", "tensorboard", "wandb", "mlflow"]
Param = bool | int | float | str | None

RUNS_FILE = "runs.jsonl"
_PACKAGES: dict[TrackerName, str] = {
    "tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow",
}  # fmt: skip


class Tracker(Protocol):
    """One run that is being written down."""

    def log_params(self, params: Mapping[str, Param]) -> None:
        """What the run was given."""

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """What it reached."""

    def log_artifact(self, path: Path) -> None:
        """A file that it made."""


class TrackingFailed(AnabranchError):
    """The run is done, but it could not be written down."""

    def __init__(self, tracker: str, cause: str) -> None:
        super().__init__(
            f"the run could not be written down by {tracker}: {' '.join(cause.split())}; the "
            "models are registered all the same"
        )


OpenTracker = Callable[[Path, str, datetime], AbstractContextManager[Tracker]]
"""Opens a run of a pipeline, that began at a time, under a folder."""


def check_tracker(name: TrackerName) -> None:
    """Raise MissingExtra when what *name* stands for is not installed."""
    package = _PACKAGES.get(name)
    if package is not None and find_spec(package) is None:
        raise MissingExtra(f"--track {name}", name)


def track(
    name: TrackerName, home: Path, report: TrainingReport, params: Mapping[str, Param],
    files: list[Path],
) -> None:  # fmt: skip
    """Write down a training as one run. Raises MissingExtra and TrackingFailed."""
    check_tracker(name)
    try:
        with _opener(name)(home, report.pipeline, datetime.now(UTC)) as run:
            run.log_params(params)
            run.log_metrics(metrics_of(report))
            for file in files:
                run.log_artifact(file)
    except AnabranchError:
        raise
    except Exception as error:  # the boundary to other people's trackers: any error is theirs
        raise TrackingFailed(name, f"{type(error).__name__}: {error}") from error


def metrics_of(report: TrainingReport) -> dict[str, float]:
    """The figures of a report by name: `composed/auc`, `decision/weight`, `rows`.

    What was not measured has none.
    """
    figures = {"auc", "average_precision", "log_loss", "brier", "calibration_error"}
    parts = {
        f"{component}/{name}": value
        for component, part in {**report.components, "composed": report.composed}.items()
        for name, value in part.model_dump(include=figures, exclude_none=True).items()
    }
    weights = {f"{stage}/weight": weight for stage, weight in report.weights.items()}
    added = {f"{stage}/adds_auc": loss.auc for stage, loss in report.held_out.left_out.items()}
    counts = {"rows": report.rows, "positives": report.positives, "seconds": report.seconds}
    return {**parts, **weights, **added, **counts}


def _opener(name: TrackerName) -> OpenTracker:
    if name == "tensorboard":
        from models.report.tensorboard_run import tensorboard_run

        return tensorboard_run
    if name == "wandb":
        from models.report.wandb_run import wandb_run

        return wandb_run
    if name == "mlflow":
        from models.report.mlflow_run import mlflow_run

        return mlflow_run
    return json_run


class _Line:
    def __init__(self) -> None:
        self.params: dict[str, Param] = {}
        self.metrics: dict[str, float] = {}
        self.artifacts: list[str] = []

    def log_params(self, params: Mapping[str, Param]) -> None:
        self.params |= params

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        self.metrics |= metrics

    def log_artifact(self, path: Path) -> None:
        self.artifacts.append(str(path.resolve()))


@contextmanager
def json_run(home: Path, pipeline: str, began: datetime) -> Iterator[Tracker]:
    """A run as one more line of *home*/runs.jsonl; several processes may append at once."""
    line = _Line()
    yield line
    home.mkdir(parents=True, exist_ok=True)
    content = orjson.dumps({
        "at": began.isoformat(timespec="seconds"), "pipeline": pipeline, "params": line.params,
        "metrics": line.metrics, "artifacts": line.artifacts,
    })  # fmt: skip
    with (home / RUNS_FILE).open("ab", buffering=0) as file:
        file.write(content + b"\n")  # one write: whole or not at all, behind what others wrote
