"""Components run over all rows of a data set, exactly as serving runs them over batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from models.arrays import Floats32
from models.component import Batch, Component, Floats, RowsFailed, StageOutput
from models.errors import ComponentFailed
from models.features import FeatureVector
from models.registry import BACKGROUND_ROWS, Background, RecordedOutput, spread_places
from models.training.data import TrainingData
from topics.events import LARGEST_FLOAT32
from topics.pipeline import EVENTS, Pipeline, is_recorded

CHUNK_ROWS = 8192


class StageOutputs:
    """What the stages run so far say about all N rows, and what the next ones read."""

    def __init__(self, pipeline: Pipeline, data: TrainingData) -> None:
        self.data = data
        self._specs = {spec.name: spec for spec in pipeline.components}
        self._outputs: dict[str, StageOutput] = {}
        self._columns = {
            spec.name: {**data.columns, **data.windowed.get(spec.name, {})}
            for spec in pipeline.components
            if EVENTS in spec.inputs
        }

    def run(self, name: str, component: Component, progress: Callable[[float], None]) -> None:
        """Add what *component* says; the stages that it reads have been run.

        What calls another system has been asked before, about each row once. Raises
        ComponentFailed where serving would make dead letters of rows.
        """
        if name in self.data.called:
            self._outputs[name] = self.data.called[name]
            progress(1.0)
            return
        outputs = []
        for start in range(0, self.data.rows, CHUNK_ROWS):
            rows = slice(start, min(start + CHUNK_ROWS, self.data.rows))
            outputs.append(_checked(component, name, self.batch(name, rows), start))
            progress(rows.stop / self.data.rows)
        self._outputs[name] = StageOutput(
            np.concatenate([stage.output for stage in outputs]),
            np.concatenate([stage.signal for stage in outputs]),
        )

    def take(self, name: str, other: StageOutputs) -> None:
        """Add what component *name* says in *other*, which is of the same rows."""
        self._outputs[name] = other._outputs[name]

    def signals(self, names: Sequence[str], rows: slice) -> Floats32:
        """The signals of stages *names*, side by side, (rows, S)."""
        return np.stack([self._outputs[name].signal[rows] for name in names], axis=1)

    def output(self, name: str) -> Floats:
        """What a stage passes on, (N, F)."""
        return self._outputs[name].output

    def background(self, rows: slice) -> Background | None:
        """What explanations compare events with: some of *rows*, equally far apart.

        None for a pipeline that has no output to take from a topic.
        """
        picked = spread_places(rows.stop - rows.start, BACKGROUND_ROWS) + rows.start
        outputs = {
            name: RecordedOutput(stage.output[picked], stage.signal[picked], self._names(name))
            for name, stage in self._outputs.items()
            if is_recorded(self._specs[name])
        }
        return Background(outputs) if outputs else None

    def batch(self, name: str, rows: slice) -> Batch:
        """The batch that serving would give component *name* for *rows*."""
        sources, count = self._specs[name].inputs, rows.stop - rows.start
        if EVENTS in sources:
            columns = {name: values[rows] for name, values in self._columns[name].items()}
            return Batch(count, columns=columns)
        stages = {source: self._outputs[source] for source in sources}
        return Batch(
            count,
            inputs={
                name: StageOutput(stage.output[rows], stage.signal[rows])
                for name, stage in stages.items()
            },
        )

    def model_input(self, name: str, rows: slice) -> Floats32:
        """What the model of component *name* reads for *rows*, (rows, F)."""
        batch, features = self.batch(name, rows), self._specs[name].features
        if features is None:
            return batch.matrix()
        # A number too large for float32 becomes infinity, which `estimators.fit` reports.
        with np.errstate(over="ignore"):
            return FeatureVector(features).compute(batch.columns).astype(np.float32)

    def model_input_names(self, name: str) -> list[str]:
        """What the F columns of `model_input` are called: `amount`, `risk-linear`, `own[3]`."""
        features = self._specs[name].features
        if features is not None:
            return FeatureVector(features).names
        return [column for source in self._specs[name].inputs for column in self._names(source)]

    def _names(self, name: str) -> list[str]:
        features, width = self._specs[name].features, self._outputs[name].output.shape[1]
        if features is not None:
            return FeatureVector(features).names
        return [name] if width == 1 else [f"{name}[{place}]" for place in range(width)]


def _checked(component: Component, name: str, batch: Batch, start: int) -> StageOutput:
    stop = start + batch.rows
    try:
        stage = component.transform(batch)
    except RowsFailed as exc:
        row = start + min(exc.errors)
        name_of, reason = exc.errors[min(exc.errors)]
        raise ComponentFailed(name, row, row + 1, f"{name_of}: {reason}") from exc
    except Exception as exc:  # the boundary to the component's code: any error is its rows'
        raise ComponentFailed(name, start, stop, f"{type(exc).__name__}: {exc}") from exc
    if stage.output.ndim != 2 or not len(stage.output) == len(stage.signal) == batch.rows:
        shapes = f"output {stage.output.shape} and signal {stage.signal.shape}"
        raise ComponentFailed(name, start, stop, f"{shapes} instead of (N, F) and (N,)")
    fits = np.abs(stage.output) <= LARGEST_FLOAT32
    fine = fits.all(axis=1) & (stage.signal >= 0) & (stage.signal <= 1)
    if not fine.all():
        row = start + int(np.argmin(fine))
        cause = "its output is not finite or beyond float32, or its signal is not in [0, 1]"
        raise ComponentFailed(name, row, row + 1, cause)
    return stage
