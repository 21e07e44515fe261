"""A pipeline file and its registry, as one object: train, score, judge, run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Self

from agents.commands.labelled_events import NoTrainingData, from_file
from agents.components import open_component
from agents.notebook.running_pipeline import RunningPipeline
from agents.offline import Extraction, FileEvaluation, Judge, Scoring, whole_table
from agents.service.decided_by import keep_decided_by
from agents.service.open_pipeline import is_trained
from models.data import FrameTable
from models.registry import Registry
from models.report.training_report import TrainingReport
from models.simulators import TRAINING
from models.training.train import train
from topics.pipeline import PipelineFile, find_pipeline, load_pipeline
from topics.settings import HomeSettings

Rows = Any
"""A pandas or Polars DataFrame, a pyarrow Table, or the path of a .parquet, .csv or .jsonl file."""


class Pipeline:
    """A pipeline to work with. What is trained stands in its registry, as with the command line.

    Rows go in as `Rows` and come out as a frame of the library that they came in by; of a path, as
    a pyarrow Table. Columns are mapped to event fields as the pipeline file says (`data:`).
    """

    def __init__(self, file: PipelineFile, registry: Registry) -> None:
        self.file = file
        """The pipeline file, read and checked."""
        self.registry = registry
        """Where its models are."""

    @classmethod
    def load(
        cls, pipeline: str | PathLike[str], registry: str | PathLike[str] | None = None
    ) -> Self:
        """Open a pipeline by the path of its file, or by the name of one that is shipped.

        The registry is a folder or URL; by default that of the command line
        ($ANABRANCH_HOME/registry, .anabranch/registry). Raises PipelineNotFound and
        PipelineFileError, which name what is wrong.
        """
        place = HomeSettings().registry if registry is None else fspath(registry)
        return cls(load_pipeline(find_pipeline(fspath(pipeline))), Registry(place))

    @property
    def name(self) -> str:
        """The pipeline's."""
        return self.file.pipeline.name

    @property
    def is_trained(self) -> bool:
        """Every model and the weights are there, and fit the pipeline file."""
        return is_trained(self.file.pipeline, self.registry)

    def simulated(self, rows: int, *, seed: int = 0) -> Any:
        """Labelled rows of a shipped pipeline's simulator, an Arrow table, to start with.

        Raises NoTrainingData for a pipeline that has none.
        """
        import pyarrow as pa

        pipeline = self.file.pipeline
        if pipeline.name not in TRAINING:
            raise NoTrainingData(f"pipeline {pipeline.name} has no simulator: bring your own rows")
        events = islice(TRAINING[pipeline.name](seed), rows)
        label = pipeline.data.label or "label"
        return pa.Table.from_pylist([{**each.event, label: int(each.label)} for each in events])

    def train(
        self, rows: Rows, *, holdout: Rows | None = None, components: Sequence[str] | None = None,
        seed: int = 0,
    ) -> TrainingReport:  # fmt: skip
        """Fit every component, learn the weights, and register them; as `anabranch train`.

        *rows* have the label column of the pipeline file. Figures are of the last 20 %, or of
        *holdout*. With *components* only these are fitted. Raises NoTrainingData, DatasetError,
        TrainingError and RegistryError.
        """
        pipeline = self.file.pipeline
        unseen = None if holdout is None else from_file(pipeline, _source(holdout), seed=seed)
        report = train(
            pipeline, self.file.path.parent, from_file(pipeline, _source(rows), seed=seed),
            self.registry, open_component=open_component, seed=seed,
            only=None if components is None else list(components), holdout=unseen,
        )  # fmt: skip
        keep_decided_by(self.registry, self.file)
        return report

    def score(self, rows: Rows, *, outcomes: bool = True) -> Any:
        """A frame with a row for each of *rows*: signals, score and decision, to the bit as served.

        See `anabranch score`. A row that is no valid event, or that no component can judge, has
        null there, and why in the column `dead_letter`. With *outcomes* features see the labels
        among *rows*, once these are known. Raises RegistryError where nothing is trained.
        """
        return self._frame(Scoring(self.file, self.registry), rows, outcomes=outcomes)

    def features(self, rows: Rows, *, outcomes: bool = True) -> Any:
        """A frame with a row for each of *rows*: the features that are served of it.

        Columns are COMPONENT.FEATURE. Raises NoFeatures where no component extracts any.
        """
        return self._frame(Extraction(self.file, self.registry), rows, outcomes=outcomes)

    def evaluate(self, rows: Rows, *, seed: int = 0) -> FileEvaluation:
        """How good scores of labelled *rows* are: each stage's and the composed, with intervals.

        See `anabranch evaluate PIPELINE FILE`. Raises NothingToJudge, MissingLabel.
        """
        opened, source = Scoring(self.file, self.registry), _source(rows)
        judge = Judge(self.file.pipeline, opened.rule.policy)
        for table in opened.tables(source, labelled=True):
            judge.take(table)
        return judge.evaluation(
            str(source), models=opened.models, weights=opened.rule.weights.version, seed=seed
        )

    def running(self, broker: str | None = None) -> RunningPipeline:
        """A context in which all components run, in a process of their own.

        On an embedded broker, or on the *broker* at host:port, whose topics have to be there.
        """
        return RunningPipeline(self.file, self.registry, broker)

    def _frame(self, opened: Extraction, rows: Rows, *, outcomes: bool) -> Any:
        source = _source(rows)
        tables = opened.tables(source, labelled=None if outcomes else False)
        table = whole_table(opened.schema, tables)
        return source.like(table, row_by_row=True) if isinstance(source, FrameTable) else table

    def __repr__(self) -> str:
        trained = "trained" if self.is_trained else "not trained"
        return f"<Pipeline {self.name}, {trained}: {self.file.path}>"


def _source(rows: Rows) -> str | FrameTable:
    """What *rows* are read from. Raises NotAFrame."""
    if isinstance(rows, (str, Path, PathLike)):
        return str(fspath(rows))
    return FrameTable.of(rows)
