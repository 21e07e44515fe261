"""Runs for Weights & Biases, offline: `wandb sync` of $ANABRANCH_HOME/wandb sends them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import wandb

from models.report.tracking import Param, Tracker


class _Run:
    def __init__(self, run: Any, pipeline: str) -> None:
        self._run, self._pipeline = run, pipeline

    def log_params(self, params: Mapping[str, Param]) -> None:
        self._run.config.update(dict(params))

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics))

    def log_artifact(self, path: Path) -> None:
        kind = path.suffix.lstrip(".") or "file"
        artifact = wandb.Artifact(f"{self._pipeline}-report-{kind}", type="report")
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)


@contextmanager
def wandb_run(home: Path, pipeline: str, began: datetime) -> Iterator[Tracker]:
    """A run of project *pipeline* under *home*/wandb, as WANDB_MODE says: offline by default."""
    home.mkdir(parents=True, exist_ok=True)
    mode: Any = os.environ.get("WANDB_MODE", "offline")
    # It takes our package `agents` for one of OpenAI's, and advertises what goes with that.
    os.environ.setdefault("WANDB_SILENT", "true")
    run = wandb.init(
        project=pipeline, name=f"{pipeline}-{began:%Y%m%dT%H%M%SZ}", dir=str(home), mode=mode,
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
    )  # fmt: skip
    try:
        yield _Run(run, pipeline)
        run.finish()
    except BaseException:
        run.finish(exit_code=1)
        raise
    finally:
        wandb.teardown()  # a process of its own still writes when `finish` has returned
