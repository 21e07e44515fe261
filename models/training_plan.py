"""What a training will do, and everything that can be found wrong before the first fit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from models.estimators import is_supervised, load_estimator
from models.splits import Blocks, blocks, known_only, levels
from models.training_data import TrainingData
from models.training_errors import NotTrainable
from topics.feature import duration_ms
from topics.pipeline import ComponentSpec, Pipeline


@dataclass(frozen=True, slots=True)
class Plan:
    """Which components are fitted, with what, and on which rows."""

    estimators: Mapping[str, Any]
    """Component → its new estimator."""
    registered: Collection[str]
    """The components whose models are refitted and registered; the others are stand-ins."""
    levels: Mapping[str, int]
    """Component → how many supervised models in a row come before it."""
    blocks: Blocks

    def rows(self, name: str) -> slice:
        """The rows that component *name* is first fitted on."""
        return self.blocks.fits[self.levels[name]]

    def refit_rows(self, name: str) -> slice:
        """The rows that it is fitted on in the end: all that no model before it was fitted on."""
        return slice(self.rows(name).start, self.blocks.report.stop)


def plan(pipeline: Pipeline, data: TrainingData, seed: int, only: Collection[str] | None) -> Plan:
    """The plan for *data*, which is in time order.

    Raises NotTrainable, EstimatorError, TooFewRows and OneClass.
    """
    trainable = _trainable(pipeline)
    registered = trainable if only is None else _known(pipeline, only, trainable)
    estimators = {
        spec.name: load_estimator(spec.model.estimator, spec.model.parameters, seed)
        for spec in pipeline.components
        if spec.kind is not None and spec.model is not None and spec.model.estimator is not None
    }
    taught = [name for name, it in estimators.items() if is_supervised(it)]
    taught += [spec.name for spec in pipeline.components if _is_calibrated(spec)]
    level = levels(pipeline, taught)
    split = blocks(data.rows, 1 + max((level[name] for name in estimators), default=0))
    if pipeline.data.published_at is None:  # else rows have no times of their own
        delay_ms = duration_ms(pipeline.outcomes.delay)
        times = data.columns[pipeline.event.time]
        split = known_only(split, times, data.labels, delay_ms)
    split.check(data.labels)
    fitted = {name: it for name, it in estimators.items() if name in trainable}
    return Plan(fitted, registered, level, split)


def _is_calibrated(spec: ComponentSpec) -> bool:
    """What others read of it knows labels, also where its estimator does not.

    Of extract_features they read the features, not the signal.
    """
    calibrated = spec.model is not None and spec.model.calibration != "none"
    return calibrated and spec.kind != "extract_features"


def _trainable(pipeline: Pipeline) -> Collection[str]:
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
    if spec.kind is None or spec.model is None or spec.model.estimator is None:
        return "it has no estimator"
    if spec.model.version is not None:
        return f"the pipeline file keeps it on version {spec.model.version}"
    return None
