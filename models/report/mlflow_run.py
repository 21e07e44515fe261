"""Runs for MLflow, in files: `mlflow ui --backend-store-uri $ANABRANCH_HOME/mlruns` shows them.

MLflow 3.17 asks for MLFLOW_ALLOW_FILE_STORE=true where runs are files, so `mlflow ui` does too;
set MLFLOW_TRACKING_URI for a database or a server instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from mlflow import MlflowClient

from models.report.tracking import Param, Tracker


class _Run:
    def __init__(self, client: MlflowClient, run: str) -> None:
        self._client, self._run = client, run

    def log_params(self, params: Mapping[str, Param]) -> None:
        for name, value in params.items():
            self._client.log_param(self._run, name, value)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._client.log_metric(self._run, name, value)

    def log_artifact(self, path: Path) -> None:
        self._client.log_artifact(self._run, str(path))


def store_in(home: Path) -> str:
    """Where runs are kept: MLFLOW_TRACKING_URI, by default files under *home*/mlruns."""
    return os.environ.get("MLFLOW_TRACKING_URI") or (home / "mlruns").resolve().as_uri()


@contextmanager
def mlflow_run(home: Path, pipeline: str, began: datetime) -> Iterator[Tracker]:
    """A run of the experiment *pipeline*."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(tracking_uri=store_in(home))
    experiment = client.get_experiment_by_name(pipeline)
    within = experiment.experiment_id if experiment else client.create_experiment(pipeline)
    name, at = f"{pipeline}-{began:%Y%m%dT%H%M%SZ}", int(began.timestamp() * 1000)
    run = client.create_run(within, start_time=at, run_name=name).info.run_id
    try:
        yield _Run(client, run)
    except BaseException:
        client.set_terminated(run, status="FAILED")
        raise
    client.set_terminated(run)
