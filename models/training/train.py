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
from collections.abc import Collection, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from models.component import Component
from models.onnx.model_component import ComponentOpener
from models.onnx.session import ModelSession
from models.registry import ModelVersion, Registry, WeightsCard, reads
from models.report.quality import quality, ranking
from models.report.training_report import ComponentReport, LabelDelay, TrainingReport
from models.training.called_rows import called_rows
from models.training.composition import Composition, compose
from models.training.data import TrainingData, first_rows, with_holdout, with_windows
from models.training.drift_references import component_references, score_reference
from models.training.engines import Engine, InProcess, Task, one_thread
from models.training.first_fits import (
    Clock,
    FirstFits,
    Progress,
    Versions,
    fields_used,
    utc_now,
    version_in,
)
from models.training.fit import Fit
from models.training.splits import Blocks
from models.training.stage_outputs import StageOutputs
from models.training.training_plan import TrainingPlan, kept_names, plan_training, trainable_names
from models.training.unseen_rows import UnseenRows, readers_of, unseen_rows
from topics.pipeline import Pipeline, in_generations, in_order

__all__ = ["TrainingData", "TrainingReport", "train"]

_FIRST_SHARE = 0.5
"""How far a component's progress is before it is fitted again."""


def _no_progress(_component: str, _fraction: float) -> None:
    """Tell nobody."""


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
    clock: Clock = utc_now,
) -> TrainingReport:
    """Fit the components that have an estimator, learn the weights, refit and register all.

    `folder` is the pipeline file's. With `only`, just those components are registered; the
    others stay as they are. Without it those stay whose newest version was imported, and those
    that the file has start on a version. Rows of a
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
    imports = {} if only is not None else _imports(pipeline, registry)
    if imports:
        only = [name for name in trainable_names(pipeline) if name not in imports]
    versions = _kept(pipeline, only, registry)
    declared = 0 if holdout is None else holdout.rows
    if holdout is not None:
        data = with_holdout(pipeline, data, holdout)
    cards = {name: version.card for name, version in versions.items()}
    called = called_rows(
        pipeline, data, lambda name: open_component(pipeline, name, registry, folder).component,
        progress,
    )  # fmt: skip
    declared = int(called.kept[data.rows - declared :].sum())
    data = called.data
    plan = plan_training(pipeline, data, seed, only, kept=cards, holdout=declared)
    data = with_windows(pipeline, data)
    data_hash = first_rows(data, data.rows - declared).digest()
    unseen = unseen_rows(pipeline, plan, data, data_hash, cards)
    plan = plan.judging_from(pipeline, data, unseen.rows.start)

    stages, engine = StageOutputs(pipeline, data), engine or InProcess()
    with one_thread(), TemporaryDirectory(prefix="anabranch-train-") as aside:
        first = FirstFits(
            pipeline, folder, plan, stages, engine, open_component=open_component,
            registry=registry, aside=Registry(Path(aside)), kept=versions, data_hash=data_hash,
            clock=clock,
        )  # fmt: skip
        refits = _fitted_in_order(pipeline, plan, first, progress)
        own = {
            name: open_component(
                pipeline.with_version(name, version.version), name, registry, folder
            ).component
            for name, version in versions.items()
            if name in plan.estimators and name in unseen.as_they_are
        }
        served = _served(pipeline, stages, first.components, own)
        composition = compose(
            pipeline, served, plan.blocks, clock=clock, unmeasured=unseen.unmeasured
        )
        models = engine.gather([*refits.values()], lambda place: progress([*refits][place], 1.0))

    refitted = {
        name: first.fits.again(
            name, fitted.onnx, first.versions[name].card,
            _metrics(served, composition.rows, name, unseen),
        )
        for name, fitted in zip(refits, models, strict=True)
    }  # fmt: skip
    states = {name: fitted.state for name, fitted in zip(refits, models, strict=True)}
    held_out = plan.blocks.held_out
    references = component_references(pipeline, served, held_out, refitted)
    for name, model in refitted.items():
        versions[name] = registry.add(
            pipeline.name, name, *model, reference=references[name], state=states[name]
        )
    digests = {name: version.digest for name, version in versions.items()}
    digests |= _files(pipeline, folder)
    weights, weights_version = _weights_card(composition, digests), None
    if weights is not None:
        weights_version = registry.add_weights(
            pipeline.name, weights, served.background(held_out),
            reference=score_reference(pipeline, served, held_out, composition.weights),
        ).version  # fmt: skip
    return TrainingReport(
        pipeline=pipeline.name,
        rows=data.rows,
        positives=int(data.labels.sum()),
        components={
            name: _component_report(served, composition.rows, name, versions, digests, unseen)
            for name in in_order(pipeline)
        },
        weights=composition.weights,
        weights_version=weights_version,
        composed=composition.quality,
        not_learned=composition.not_learned,
        imports={name: version.card.source or "" for name, version in imports.items()},
        cutoffs=composition.cutoffs,
        held_out=composition.held_out,
        label_delay=_label_delay(pipeline, plan.blocks),
        calls_failed=called.left_out,
        seconds=time.perf_counter() - started,
    )


def _imports(pipeline: Pipeline, registry: Registry) -> dict[str, ModelVersion]:
    """The newest versions that were imported and fit the file: training puts nothing over them."""
    newest = {
        name: registry.latest(pipeline.name, name)
        for name in trainable_names(pipeline)
        if registry.has(pipeline.name, name)
    }
    return {
        name: version
        for name, version in newest.items()
        if version.card.source is not None and reads(pipeline, name, version.card.inputs)
    }


def _kept(
    pipeline: Pipeline, only: Collection[str] | None, registry: Registry
) -> dict[str, ModelVersion]:
    """The versions that serving opens, of the components that are not fitted."""
    versions = {}
    for name in kept_names(pipeline, only):
        model = pipeline.component(name).model
        wanted = None if model is None else model.version
        versions[name] = registry.get(pipeline.name, name, wanted)
    return versions


def _fitted_in_order(
    pipeline: Pipeline, plan: TrainingPlan, first: FirstFits, progress: Progress
) -> dict[str, Task[Fit]]:
    """The final fits, which go on, of the components that are registered; all are fitted once.

    A component is fitted again as soon as its inputs are there: engines have more to do at a time.
    """
    refits: dict[str, Task[Fit]] = {}
    states = pipeline.renew.incremental

    def up_to_first(name: str, share: float) -> None:
        progress(name, share * (_FIRST_SHARE if name in plan.registered else 1.0))

    for names in in_generations(pipeline):
        for name in names:
            progress(name, 0.0)
        tasks = first.submit(names)
        refits |= {
            name: first.fits.submit(name, plan.refit_rows(name), keeps_state=name in states)
            for name in tasks
            if name in plan.registered
        }
        first.run(names, tasks, up_to_first)
    return refits


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


def _metrics(stages: StageOutputs, rows: slice, name: str, unseen: UnseenRows) -> dict[str, float]:
    """How a component's signal ranks the report's *rows*; nothing where it may have seen them."""
    if name in unseen.unmeasured:
        return {}
    signal, counts = stages.signals([name], rows)[:, 0], stages.data.weights_of(rows)
    return ranking(stages.data.labels[rows], signal, counts).model_dump()


def _files(pipeline: Pipeline, folder: Path) -> dict[str, str]:
    """The digests of the models that the pipeline file names by path."""
    return {
        spec.name: ModelSession.open(folder / spec.model.path).digest
        for spec in pipeline.components
        if spec.model is not None and spec.model.path is not None
    }


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
    unseen: UnseenRows,
) -> ComponentReport:  # fmt: skip
    version, why = version_in(versions, name), unseen.unmeasured.get(name)
    if why is not None:
        return ComponentReport.of(why, version=version, digest=digests.get(name))
    signal, counts = stages.signals([name], rows)[:, 0], stages.data.weights_of(rows)
    reached = quality(stages.data.labels[rows], signal, counts)
    is_ours = version is not None and name not in unseen.as_they_are
    fitted = "stand-in" if name in unseen.stand_ins else "first fit"
    return ComponentReport.of(
        reached, version=version, digest=digests.get(name),
        measured=fitted if is_ours else "itself",
    )  # fmt: skip
