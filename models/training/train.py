"""Training a pipeline: every stage is fitted on what it will see in service, weighed, refitted.

Rows are used in time order (`models.training.splits`): a component is fitted on rows that no
earlier supervised model was fitted on, then run over all rows by the same code as in service, so
the next stage is fitted on honest inputs. Weights are learned on the first half of the last 20 %
and the composed figures are of the second half; with fixed weights, of all of the last 20 %.

Then, as stacking has it (Wolpert, *Stacked Generalization*, Neural Networks 5, 1992), each
component is fitted again with the rows held back so far: one that reads no supervised model
on all rows, one that does on all rows that the first models before it were not fitted on,
with those models' outputs. The refitted models are registered; all figures are of the first.

Models that are not fitted here, a file, an import, a version that is kept, are run as they are, and
judged on rows that they have not seen, if there are some (`models.training.unseen_rows`). Only what
reads a kept model that was fitted by an estimator is fitted on a stand-in's output: on that of the
model itself, which knows those rows, it would learn to believe it too much.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Protocol

from models.component import Component
from models.onnx.session import ModelSession
from models.registry import ModelCard, ModelVersion, Registry, WeightsCard
from models.report.metrics import quality, ranking
from models.report.training_report import ComponentReport, LabelDelay, TrainingReport
from models.training.composition import Composition, compose
from models.training.data import TrainingData, with_windows
from models.training.engines import Engine, InProcess, Task, one_thread
from models.training.fit import Fits
from models.training.holdout import first_rows, with_holdout
from models.training.splits import Blocks
from models.training.stage_outputs import StageOutputs
from models.training.training_plan import TrainingPlan, kept_names, plan_training
from models.training.unseen_rows import judged, milliseconds, readers_of
from topics.pipeline import EVENTS, OUTCOMES, Pipeline, in_generations, in_order

__all__ = ["TrainingData", "TrainingReport", "train"]

_FIRST_SHARE = 0.5
"""How far a component's progress is before it is fitted again."""


class LoadedComponent(Protocol):
    """A loaded component."""

    @property
    def component(self) -> Component:
        """What transforms batches."""


ComponentOpener = Callable[[Pipeline, str, Registry, Path], LoadedComponent]
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
    open_component: ComponentOpener,
    holdout: TrainingData | None = None,
    seed: int = 0,
    only: Collection[str] | None = None,
    engine: Engine | None = None,
    progress: Progress = _no_progress,
    clock: Clock = _utc_now,
) -> TrainingReport:
    """Fit the components that have an estimator, learn the weights, refit and register all.

    `folder` is the pipeline file's. With `only`, just those components are registered; the
    others stay as they are. A component that the file keeps on a version stays too. Rows of a
    `holdout` are declared unseen by every model: none is fitted on them, and all is weighed and
    judged on them. Without it that is the last 20 % of *data*; a model that stays and was fitted
    on just these data is judged by a stand-in, as its own training did.
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
    versions = _kept(pipeline, only, registry)
    declared = 0 if holdout is None else holdout.rows
    if holdout is not None:
        data = with_holdout(pipeline, data, holdout)
    kept = {name: version.card for name, version in versions.items()}
    todo = plan_training(pipeline, data, seed, only, kept=kept, holdout=declared)
    data = with_windows(pipeline, data)
    data_hash = first_rows(data, data.rows - declared).digest()
    unseen = _judged(pipeline, todo, data, data_hash, kept)
    todo = todo.judging_from(pipeline, data, unseen.rows.start)
    stages = StageOutputs(pipeline, data)
    engine = engine or InProcess()
    fits = Fits(pipeline, todo, stages, engine)
    first: dict[str, ModelVersion] = {}
    again: dict[str, Task[bytes]] = {}
    opened: dict[str, Component] = {}
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
                pinned = pipeline.with_version(name, version_in({**versions, **first}, name))
                opened[name] = open_component(pinned, name, source, folder).component
                share = _FIRST_SHARE if name in todo.registered else 1.0
                stages.run(name, opened[name], _up_to(share, progress, name))
        served = _served(pipeline, stages, opened, {
            name: open_component(
                pipeline.with_version(name, versions[name].version), name, registry, folder
            ).component
            for name in versions
            if name in todo.estimators and name in unseen.as_they_are
        })  # fmt: skip
        composition = compose(
            pipeline, served, todo.blocks, clock=clock, unmeasured=unseen.unmeasured
        )
        models = engine.gather([*again.values()], lambda place: progress([*again][place], 1.0))
    final = [
        fits.again(name, it, first[name].card, _metrics(served, todo.blocks, name, unseen))
        for name, it in zip(again, models, strict=True)
    ]
    for name, made in zip(again, final, strict=True):
        versions[name] = registry.add(pipeline.name, name, *made)
    digests = {name: it.digest for name, it in versions.items()} | _files(pipeline, folder)
    weights = _weights_card(composition, digests)
    return TrainingReport(
        pipeline=pipeline.name,
        rows=data.rows,
        positives=int(data.labels.sum()),
        components={
            name: _component_report(served, composition.rows, name, versions, digests, unseen)
            for name in in_order(pipeline)
        },
        weights=composition.weights,
        weights_version=registry.add_weights(pipeline.name, weights).version if weights else None,
        composed=composition.quality,
        not_learned=composition.not_learned,
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


def _kept(
    pipeline: Pipeline, only: Collection[str] | None, registry: Registry
) -> dict[str, ModelVersion]:
    """The versions that serving opens, of the components that are not fitted."""
    found = {}
    for name in kept_names(pipeline, only):
        model = pipeline.component(name).model
        wanted = None if model is None else model.version
        found[name] = registry.get(pipeline.name, name, wanted)
    return found


class _Unseen(NamedTuple):
    """What can be judged of models that are not fitted here."""

    rows: slice
    unmeasured: Mapping[str, str]
    as_they_are: Collection[str]
    """Those that are judged themselves."""
    stand_ins: Collection[str] = ()
    """Those that a stand-in is judged for."""


def _judged(
    pipeline: Pipeline, todo: TrainingPlan, data: TrainingData, data_hash: str,
    kept: Mapping[str, ModelCard],
) -> _Unseen:  # fmt: skip
    """What can be judged of the models that are not fitted here, and on which rows."""
    held_out = todo.blocks.held_out
    if todo.holdout:
        return _Unseen(held_out, {}, [*kept])
    until = {
        spec.name: milliseconds(spec.model.trained_until)
        for spec in pipeline.components
        if spec.model is not None and spec.model.path is not None
    }
    for name, card in kept.items():
        if name not in todo.estimators or card.data_hash != data_hash:
            until[name] = milliseconds(datetime.fromisoformat(card.seen_until))
    timed = pipeline.data.published_at is None
    times = data.columns[pipeline.event.time] if timed else None
    found = judged(pipeline, until, held_out, times, data.labels)
    as_they_are = [name for name in until if name not in found.unmeasured]
    stand_ins = [name for name in kept if name not in until]
    return _Unseen(found.rows, found.unmeasured, as_they_are, stand_ins)


def _served(
    pipeline: Pipeline,
    stages: StageOutputs,
    opened: Mapping[str, Component],
    kept: Mapping[str, Component],
) -> StageOutputs:
    """What the stages say with models *kept* instead of their stand-ins, which *stages* ran."""
    if not kept:
        return stages
    served = StageOutputs(pipeline, stages.data)
    others = readers_of(pipeline, {*kept})
    for name in in_order(pipeline):
        if name in others:
            served.run(name, kept.get(name) or opened[name], lambda _: None)
        else:
            served.take(name, stages)
    return served


def _metrics(stages: StageOutputs, blocks: Blocks, name: str, unseen: _Unseen) -> dict[str, float]:
    """How a component's signal ranks all held-out rows; nothing where it may have seen them."""
    if name in unseen.unmeasured:
        return {}
    labels, rows = stages.data.labels[blocks.held_out], blocks.held_out
    return ranking(labels, stages.signals([name], rows)[:, 0]).model_dump()


def _files(pipeline: Pipeline, folder: Path) -> dict[str, str]:
    """The digests of the models that the pipeline file names by path."""
    return {
        spec.name: ModelSession.open(folder / spec.model.path).digest
        for spec in pipeline.components
        if spec.model is not None and spec.model.path is not None
    }


def version_in(versions: Versions, name: str) -> int | None:
    """The version of component *name*, to keep it on whatever others register meanwhile."""
    return versions[name].version if name in versions else None


def _up_to(share: float, progress: Progress, name: str) -> Callable[[float], None]:
    return lambda fraction: progress(name, share * fraction)


def _weights_card(composition: Composition, digests: Mapping[str, str]) -> WeightsCard | None:
    """The card of learned weights, with the models whose signals they will weigh."""
    if composition.card is None:
        return None
    return composition.card.model_copy(update={"models": dict(digests)})


def _label_delay(pipeline: Pipeline, blocks: Blocks) -> LabelDelay | None:
    if pipeline.data.published_at is not None:
        return None
    return LabelDelay(
        delay=pipeline.outcomes.delay, left_out=dict(blocks.late), too_short=[*blocks.too_short]
    )


def _component_report(
    stages: StageOutputs, rows: slice, name: str, versions: Versions, digests: Mapping[str, str],
    unseen: _Unseen,
) -> ComponentReport:  # fmt: skip
    version, why = version_in(versions, name), unseen.unmeasured.get(name)
    if why is not None:
        return ComponentReport.of(why, version=version, digest=digests.get(name))
    reached = quality(stages.data.labels[rows], stages.signals([name], rows)[:, 0])
    is_ours = version is not None and name not in unseen.as_they_are
    fitted = "stand-in" if name in unseen.stand_ins else "first fit"
    return ComponentReport.of(
        reached, version=version, digest=digests.get(name),
        measured=fitted if is_ours else "itself",
    )  # fmt: skip
