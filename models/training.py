"""Training a pipeline: every stage is fitted on what it will see in service, weighed, refitted.

Rows are used in time order (`models.splits`): a component is fitted on rows that no earlier
supervised model was fitted on, then run over all rows by the same code as in service, so the
next stage is fitted on honest inputs. Weights are learned on the first half of the last 20 %
and the composed figures are of the second half; with fixed weights, of all of the last 20 %.

Then, as stacking has it (Wolpert, *Stacked Generalization*, Neural Networks 5, 1992), each
component is fitted again with the rows held back so far: one that reads no supervised model
on all rows, one that does on all rows that the first models before it were not fitted on,
with those models' outputs. The refitted models are registered; all figures are of the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from models.component import Component
from models.composing import Composition, compose
from models.engines import Engine, InProcess, Pending, one_thread
from models.fitting import Fits
from models.judging import quality
from models.registry import ModelVersion, Registry, WeightsCard
from models.splits import Blocks
from models.stage_outputs import StageOutputs
from models.training_data import TrainingData, with_windows
from models.training_plan import plan
from models.training_report import ComponentReport, LabelDelay, TrainingReport
from topics.feature import EVENTS, OUTCOMES
from topics.flow import in_generations, in_order
from topics.pipeline import Pipeline

__all__ = ["TrainingData", "TrainingReport", "train"]

_FIRST_SHARE = 0.5
"""How far a component's progress is before it is fitted again."""


class Opened(Protocol):
    """A loaded component."""

    @property
    def component(self) -> Component:
        """What transforms batches."""


OpenComponent = Callable[[Pipeline, str, Registry, Path], Opened]
Progress = Callable[[str, float], None]
Clock = Callable[[], datetime]
Versions = Mapping[str, ModelVersion]


def _no_progress(_component: str, _fraction: float) -> None:
    """Tell nobody."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


def train(
    pipeline: Pipeline,
    folder: Path,
    data: TrainingData,
    registry: Registry,
    *,
    open_component: OpenComponent,
    seed: int = 0,
    only: Collection[str] | None = None,
    engine: Engine | None = None,
    progress: Progress = _no_progress,
    clock: Clock = _utc_now,
) -> TrainingReport:
    """Fit the components that have an estimator, learn the weights, refit and register all.

    `folder` is the pipeline file's. With `only`, just those components are registered; the
    others stay as they are, and others fitted on the same rows stand in for them meanwhile:
    the registry's may have seen the rows that weights are learned on. A component that the
    file keeps on a version is not fitted.
    Fits run on `engine`, in this process without one: those of components that do not read
    each other at a time, and the final ones while others go on. `progress(component, fraction)`
    follows each component from 0 to 1. The same data and seed give the same models, bit for
    bit, on every engine. Nothing is registered before everything has succeeded.
    Raises TrainingError, EstimatorError, RegistryError, EngineError, NotExportable and
    ExportMismatch.
    """
    started = time.perf_counter()
    data.check([pipeline.event.time, *fields_used(pipeline)])
    data = data.in_time_order(pipeline.event.time)
    todo = plan(pipeline, data, seed, only)
    data = with_windows(pipeline, data)
    data_hash = data.digest()
    versions = {
        name: found
        for name in in_order(pipeline)
        if name not in todo.registered and (found := _registered(pipeline, name, registry))
    }
    stages = StageOutputs(pipeline, data)
    engine = engine or InProcess()
    fits = Fits(pipeline, todo, stages, engine)
    first: dict[str, ModelVersion] = {}
    again: dict[str, Pending[bytes]] = {}
    with one_thread(), TemporaryDirectory(prefix="anabranch-train-") as folder_aside:
        aside = Registry(Path(folder_aside))
        for names in in_generations(pipeline):
            for name in names:
                progress(name, 0.0)
            fitted = [name for name in names if name in todo.estimators]
            pending = [fits.submit(name, todo.rows(name)) for name in fitted]
            refitted = [name for name in fitted if name in todo.registered]
            again |= {name: fits.submit(name, todo.refit_rows(name)) for name in refitted}
            for name, onnx in zip(fitted, engine.gather(pending), strict=True):
                made = fits.first(name, onnx, data_hash=data_hash, clock=clock)
                first[name] = aside.add(pipeline.name, name, *made)
            for name in names:
                source = aside if name in fitted else registry
                kept = pipeline.with_version(name, version_in(first, name))
                opened = open_component(kept, name, source, folder)
                share = _FIRST_SHARE if name in todo.registered else 1.0
                stages.run(name, opened.component, _up_to(share, progress, name))
        composition = compose(pipeline, stages, todo.blocks, clock=clock)
        models = engine.gather([*again.values()], lambda place: progress([*again][place], 1.0))
    final = [fits.again(name, it, first[name].card) for name, it in zip(again, models, strict=True)]
    for name, made in zip(again, final, strict=True):
        versions[name] = registry.add(pipeline.name, name, *made)
    weights = _weights_card(composition, versions)
    return TrainingReport(
        pipeline=pipeline.name,
        rows=data.rows,
        positives=int(data.labels.sum()),
        components=_component_reports(stages, composition.rows, in_order(pipeline), versions),
        weights=composition.weights,
        weights_version=registry.add_weights(pipeline.name, weights).version if weights else None,
        composed=composition.quality,
        cutoffs=composition.cutoffs,
        held_out=composition.held_out,
        label_delay=_label_delay(pipeline, todo.blocks),
        seconds=time.perf_counter() - started,
    )


def fields_used(pipeline: Pipeline) -> list[str]:
    """The event fields that features are made of."""
    used: list[str] = []
    for spec in pipeline.components:
        if spec.windowed:
            used.append(pipeline.entity(spec.name))
        used += [it.of for it in spec.features or [] if it.of not in (EVENTS, OUTCOMES)]
    return used


def _registered(pipeline: Pipeline, name: str, registry: Registry) -> ModelVersion | None:
    """The version that serving opens, or None for a component without a model of its own."""
    spec = pipeline.component(name)
    if spec.kind is None or spec.model is None or spec.model.estimator is None:
        return None
    return registry.get(pipeline.name, name, spec.model.version)


def version_in(versions: Versions, name: str) -> int | None:
    """The version of component *name*, to keep it on whatever others register meanwhile."""
    return versions[name].version if name in versions else None


def _up_to(share: float, progress: Progress, name: str) -> Callable[[float], None]:
    return lambda fraction: progress(name, share * fraction)


def _weights_card(composition: Composition, versions: Versions) -> WeightsCard | None:
    """The card of learned weights, with the models whose signals they will weigh."""
    if composition.card is None:
        return None
    digests = {name: version.digest for name, version in versions.items()}
    return composition.card.model_copy(update={"models": digests})


def _label_delay(pipeline: Pipeline, blocks: Blocks) -> LabelDelay | None:
    if pipeline.data.published_at is not None:
        return None
    return LabelDelay(
        delay=pipeline.outcomes.delay, left_out=dict(blocks.late), too_short=[*blocks.too_short]
    )


def _component_reports(
    stages: StageOutputs, rows: slice, names: Collection[str], versions: Versions
) -> dict[str, ComponentReport]:
    labels = stages.data.labels[rows]
    reports = {}
    for name in names:
        found = versions.get(name)
        reports[name] = ComponentReport(
            **quality(labels, stages.signals([name], rows)[:, 0]).model_dump(),
            version=found.version if found else None,
            digest=found.digest if found else None,
        )
    return reports
