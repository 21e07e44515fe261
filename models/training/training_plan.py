"""What a training will do, and everything that can be found wrong before the first fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from models.errors import EstimatorError, NotTrainable
from models.registry import ModelCard
from models.training.data import TrainingData
from models.training.estimators import is_supervised, load_estimator
from models.training.splits import Blocks, blocks, judged_from, known_only, levels
from topics.pipeline import ComponentSpec, Pipeline, duration_ms, kind_of


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Which components are fitted, with what, and on which rows."""

    estimators: Mapping[str, Any]
    """Component → its new estimator, or that of its stand-in."""
    registered: Collection[str]
    """The components whose models are refitted and registered; the others are stand-ins: models
    fitted as those in the registry were, for what reads them is to be fitted on honest signals."""
    levels: Mapping[str, int]
    """Component → how many supervised models in a row come before it."""
    blocks: Blocks
    levels_fitted: int
    """How many blocks there are to fit on."""
    holdout: int = 0
    """Rows at the end that are declared unseen."""

    def rows(self, name: str) -> slice:
        """The rows that component *name* is first fitted on."""
        return self.blocks.fits[self.levels[name]]

    def refit_rows(self, name: str) -> slice:
        """The rows that it is fitted on in the end: all that no model before it was fitted on."""
        stop = self.blocks.refit_stop
        return slice(self.rows(name).start, self.blocks.report.stop if stop is None else stop)

    def judging_from(self, pipeline: Pipeline, data: TrainingData, row: int) -> TrainingPlan:
        """The same with held-out rows from *row* on alone. Raises OneClass."""
        if row == self.blocks.held_out.start:
            return self
        return replace(self, blocks=_split(pipeline, data, self.levels_fitted, self.holdout, row))


def kept_names(pipeline: Pipeline, only: Collection[str] | None) -> list[str]:
    """The components with an estimator that a training of *only* leaves as they are.

    Raises NotTrainable.
    """
    if only is not None:
        _known(pipeline, only, trainable_names(pipeline))
    return [
        name
        for name in (spec.name for spec in pipeline.components)
        if (model := pipeline.component(name).model) is not None
        and model.estimator is not None
        and kind_of(pipeline.component(name)).has_model
        and (model.version is not None or (only is not None and name not in only))
    ]


def plan_training(
    pipeline: Pipeline,
    data: TrainingData,
    seed: int,
    only: Collection[str] | None,
    *,
    kept: Mapping[str, ModelCard] | None = None,
    holdout: int = 0,
) -> TrainingPlan:
    """The plan for *data*, which is in time order, with so many rows of a *holdout* behind it.

    `kept` are the cards of the models that are left as they are. One that was fitted by the
    file's estimator has a stand-in, fitted by the same; an imported one stands for itself.
    Raises NotTrainable, EstimatorError, TooFewRows and OneClass.
    """
    trainable = trainable_names(pipeline)
    registered = trainable if only is None else _known(pipeline, only, trainable)
    estimators = {
        spec.name: load_estimator(spec.model.estimator, spec.model.parameters, seed)
        for spec in pipeline.components
        if kind_of(spec).has_model and spec.model is not None and spec.model.estimator is not None
    }
    taught = [name for name, estimator in estimators.items() if is_supervised(estimator)]
    taught += [spec.name for spec in pipeline.components if _is_calibrated(spec)]
    level = levels(pipeline, taught)
    count = 1 + max((level[name] for name in estimators), default=0)
    split = _split(pipeline, data, count, holdout)
    fitted = {name: estimator for name, estimator in estimators.items() if name in registered}
    if kept is None:
        fitted = {name: estimator for name, estimator in estimators.items() if name in trainable}
    for name, card in (kept or {}).items():
        if (stand_in := _stand_in(pipeline.component(name), card, seed)) is not None:
            fitted[name] = stand_in
    return TrainingPlan(fitted, registered, level, split, count, holdout)


def _split(
    pipeline: Pipeline, data: TrainingData, count: int, holdout: int, row: int | None = None
) -> Blocks:
    """Blocks for *count* levels; held-out rows from *row* on. Raises TooFewRows and OneClass."""
    split = blocks(data.rows - holdout, count, holdout)
    if row is not None:
        split = judged_from(split, row)
    if pipeline.data.published_at is None:  # else rows have no times of their own
        delay_ms = duration_ms(pipeline.outcomes.delay)
        times = data.columns[pipeline.event.time]
        split = known_only(split, times, data.labels, delay_ms)
    split.check(data.labels)
    return split


def _stand_in(spec: ComponentSpec, card: ModelCard, seed: int) -> Any | None:
    """The estimator that a registered model was fitted by, where the file still has it.

    Only then: who may write to the registry is not to choose what is imported here.
    """
    if spec.model is None or spec.model.estimator != card.estimator:
        return None
    try:
        return load_estimator(card.estimator, card.parameters, seed)
    except EstimatorError:
        return None


def _is_calibrated(spec: ComponentSpec) -> bool:
    """What others read of it knows labels, also where its estimator does not.

    Of one that passes on features they do not read the signal.
    """
    calibrated = spec.model is not None and spec.model.calibration != "none"
    return calibrated and not kind_of(spec).passes_on_features


def trainable_names(pipeline: Pipeline) -> Collection[str]:
    """The components that are fitted here."""
    return [spec.name for spec in pipeline.components if _why_not(spec) is None]


def _known(
    pipeline: Pipeline, only: Collection[str], trainable: Collection[str]
) -> Collection[str]:
    """The components *only*; NotTrainable for one that is not fitted here."""
    reasons = {spec.name: _why_not(spec) for spec in pipeline.components}
    for name in only:
        if reason := reasons.get(name, "the pipeline has no such component"):
            raise NotTrainable(name, reason, trainable)
    return only


def _why_not(spec: ComponentSpec) -> str | None:
    """Why a component is not fitted here, or None when it is."""
    if not kind_of(spec).has_model or spec.model is None or spec.model.estimator is None:
        return "it has no estimator"
    if spec.model.version is not None:
        return f"the pipeline file has it start on version {spec.model.version}"
    return None
