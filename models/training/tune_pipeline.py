"""Tuning a pipeline: each component's candidates on what the component will see in service."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from models.errors import NotTrainable
from models.registry import ModelVersion, Registry
from models.training.data import TrainingData, with_windows
from models.training.engines import Engine, one_thread
from models.training.estimators import load_estimator
from models.training.fit import Fits
from models.training.stage_outputs import StageOutputs
from models.training.train import ComponentOpener, fields_used, version_in
from models.training.training_plan import TrainingPlan, plan_training
from models.training.tune import TuningResult, choices, forward_folds, search
from topics.pipeline import Pipeline, Scalar, duration_ms, in_generations

Rounds = Callable[[str], None]
"""Told the component, whenever a round of its candidates begins."""


def tune(
    pipeline: Pipeline,
    folder: Path,
    data: TrainingData,
    registry: Registry,
    *,
    open_component: ComponentOpener,
    engine: Engine,
    seed: int = 0,
    most: int = 50,
    only: Collection[str] | None = None,
    on_round: Rounds = lambda _: None,
) -> list[TuningResult]:
    """Try the candidates of *only*, or of every component that has some; register nothing.

    At most *most* of a component's combinations are tried, drawn by *seed*. Components before
    it are fitted as training first does, with the parameters that the file has. `registry`
    opens those that the file keeps on a version.
    Raises TrainingError, EstimatorError, RegistryError, EngineError, NotExportable and
    ExportMismatch.
    """
    data.check([pipeline.event.time, *fields_used(pipeline)])
    data = data.in_time_order(pipeline.event.time)
    todo = plan_training(pipeline, data, seed, None)
    wanted = _wanted(pipeline, todo, only)
    tried = {name: _tried(pipeline, name, todo, most, seed) for name in wanted}
    data = with_windows(pipeline, data)
    stages, first = StageOutputs(pipeline, data), dict[str, ModelVersion]()
    fits, tuned = Fits(pipeline, todo, stages, engine), list[TuningResult]()
    with one_thread(), TemporaryDirectory(prefix="anabranch-tune-") as folder_aside:
        aside = Registry(Path(folder_aside))
        for names in in_generations(pipeline):
            tuned += [
                _tuned(pipeline, name, todo, stages, tried[name], engine, seed, on_round)
                for name in names
                if name in wanted
            ]
            if len(tuned) == len(wanted):
                break
            fitted = [name for name in names if name in todo.estimators]
            pending = [fits.submit(name, todo.rows(name)) for name in fitted]
            for name, onnx in zip(fitted, engine.gather(pending), strict=True):
                made = fits.first(name, onnx, data_hash="", clock=lambda: datetime.now(UTC))
                first[name] = aside.add(pipeline.name, name, *made)
            for name in names:
                source = aside if name in fitted else registry
                kept = pipeline.with_version(name, version_in(first, name))
                opened = open_component(kept, name, source, folder)
                stages.run(name, opened.component, lambda _: None)
    return tuned


def _wanted(
    pipeline: Pipeline, todo: TrainingPlan, only: Collection[str] | None
) -> Collection[str]:
    """The components to tune. Raises NotTrainable."""
    models = {spec.name: spec.model for spec in pipeline.components}
    having = [name for name in todo.estimators if (it := models[name]) and it.candidates]
    for name in having if only is None else only:
        if name not in having:
            reason = "it has no model: candidates: {parameter: [value, …]} in the pipeline file"
            raise NotTrainable(name, reason if name in models else "it does not exist", having)
    if not having:
        raise NotTrainable(
            pipeline.name, "no component has model: candidates: {parameter: [value, …]}", []
        )
    return having if only is None else only


def _tried(
    pipeline: Pipeline, name: str, todo: TrainingPlan, most: int, seed: int
) -> list[dict[str, Scalar]]:
    """What to try for component *name*, the file's choice first. Raises UnknownParameter."""
    spec = pipeline.component(name).model
    if spec is None or spec.estimator is None:
        raise ValueError(f"component {name} has no estimator")
    first = {parameter: values[0] for parameter, values in spec.candidates.items()}
    load_estimator(spec.estimator, {**spec.parameters, **first}, seed)
    known: Mapping[str, Scalar] = todo.estimators[name].get_params(deep=False)
    current = {parameter: known[parameter] for parameter in spec.candidates}
    return choices(spec.candidates, current, most, seed)


def _tuned(
    pipeline: Pipeline,
    name: str,
    todo: TrainingPlan,
    stages: StageOutputs,
    tried: list[dict[str, Scalar]],
    engine: Engine,
    seed: int,
    on_round: Rounds,
) -> TuningResult:
    rows = todo.rows(name)
    labels = stages.data.labels[rows]
    timed = pipeline.data.published_at is None
    times = stages.data.columns[pipeline.event.time][rows] if timed else None
    folds = forward_folds(times, labels, duration_ms(pipeline.outcomes.delay))
    return search(
        name, todo.estimators[name], stages.model_input(name, rows), labels, folds, tried,
        engine=engine, seed=seed, on_round=lambda: on_round(name),
    )  # fmt: skip
