"""Tuning a pipeline: each component's candidates on what the component will see in service."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from models.errors import NotTrainable
from models.onnx.model_component import ComponentOpener
from models.registry import Registry
from models.training.called_rows import called_rows
from models.training.data import TrainingData, with_windows
from models.training.engines import Engine, one_thread
from models.training.estimators import load_estimator
from models.training.first_fits import FirstFits, fields_used
from models.training.stage_outputs import StageOutputs
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
    data = called_rows(
        pipeline, data, lambda name: open_component(pipeline, name, registry, folder).component
    ).data
    plan = plan_training(pipeline, data, seed, None)
    wanted = _wanted(pipeline, plan, only)
    tried = {name: _tried(pipeline, name, plan, most, seed) for name in wanted}
    data = with_windows(pipeline, data)
    stages, results = StageOutputs(pipeline, data), list[TuningResult]()
    with one_thread(), TemporaryDirectory(prefix="anabranch-tune-") as aside:
        first = FirstFits(
            pipeline, folder, plan, stages, engine, open_component=open_component,
            registry=registry, aside=Registry(Path(aside)), kept={},
        )  # fmt: skip
        for names in in_generations(pipeline):
            results += [
                _tuned(pipeline, name, plan, stages, tried[name], engine, seed, on_round)
                for name in names
                if name in wanted
            ]
            if len(results) == len(wanted):
                break
            first.run(names, first.submit(names), lambda _name, _share: None)
    return results


def _wanted(
    pipeline: Pipeline, plan: TrainingPlan, only: Collection[str] | None
) -> Collection[str]:
    """The components to tune. Raises NotTrainable."""
    models = {spec.name: spec.model for spec in pipeline.components}
    having = [name for name in plan.estimators if (model := models[name]) and model.candidates]
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
    pipeline: Pipeline, name: str, plan: TrainingPlan, most: int, seed: int
) -> list[dict[str, Scalar]]:
    """What to try for component *name*, the file's choice first. Raises UnknownParameter."""
    spec = pipeline.component(name).model
    if spec is None or spec.estimator is None:
        raise ValueError(f"component {name} has no estimator")
    first = {parameter: values[0] for parameter, values in spec.candidates.items()}
    load_estimator(spec.estimator, {**spec.parameters, **first}, seed)
    known: Mapping[str, Scalar] = plan.estimators[name].get_params(deep=False)
    current = {parameter: known[parameter] for parameter in spec.candidates}
    return choices(spec.candidates, current, most, seed)


def _tuned(
    pipeline: Pipeline,
    name: str,
    plan: TrainingPlan,
    stages: StageOutputs,
    tried: list[dict[str, Scalar]],
    engine: Engine,
    seed: int,
    on_round: Rounds,
) -> TuningResult:
    rows = plan.rows(name)
    labels = stages.data.labels[rows]
    timed = pipeline.data.published_at is None
    times = stages.data.columns[pipeline.event.time][rows] if timed else None
    folds = forward_folds(times, labels, duration_ms(pipeline.outcomes.delay))
    return search(
        name, plan.estimators[name], stages.model_input(name, rows), labels, folds, tried,
        engine=engine, seed=seed, on_round=lambda: on_round(name),
    )  # fmt: skip
