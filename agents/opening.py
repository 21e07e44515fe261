"""Everything that a pipeline needs before it can run: its components and its weights."""

from __future__ import annotations

from collections.abc import Collection

from agents.components import OpenComponent, open_component
from agents.decisions import Weights
from agents.runner import Parts
from models.model_inputs import WeightsOutOfDate, reads
from models.registry import Registry, WeightsVersion
from topics.errors import AnabranchError
from topics.pipeline import Pipeline
from topics.pipeline_file import PipelineFile
from topics.topology import WEIGH


class UnknownComponent(AnabranchError):
    """A component that the pipeline does not have."""

    def __init__(self, name: str, pipeline: Pipeline) -> None:
        known = ", ".join([*(component.name for component in pipeline.components), WEIGH])
        super().__init__(f"pipeline {pipeline.name} has no component {name!r}; it has {known}")


def open_parts(
    file: PipelineFile, registry: Registry, only: Collection[str] | None = None
) -> Parts:
    """Load the components named in *only* (all, if None) and the weights, where needed.

    Raises UnknownComponent, ComponentNotLoadable, or models.registry.RegistryError.
    """
    pipeline = file.pipeline
    names = [component.name for component in pipeline.components]
    wanted = [*names, WEIGH] if only is None else list(dict.fromkeys(only))
    for name in wanted:
        if name not in (*names, WEIGH):
            raise UnknownComponent(name, pipeline)
    components: dict[str, OpenComponent] = {
        name: open_component(pipeline, name, registry, file.path.parent)
        for name in wanted
        if name != WEIGH
    }
    weights = open_weights(pipeline, registry) if WEIGH in wanted else None
    return Parts(pipeline, components, weights)


def open_weights(pipeline: Pipeline, registry: Registry) -> Weights:
    """The pipeline's weights: those of the file, or the newest learned ones.

    Raises WeightsOutOfDate, or models.registry.ModelNotFound.
    """
    if pipeline.weighting.weights != "learned":
        return Weights(pipeline.weighting.weights, 0)
    learned = registry.weights(pipeline.name)
    if not _fit(pipeline, learned):
        raise WeightsOutOfDate(
            pipeline.name, sorted(learned.card.values), pipeline.weighting.inputs
        )
    return Weights(learned.card.values, learned.version)


def is_trained(pipeline: Pipeline, registry: Registry) -> bool:
    """Every model that `anabranch train` would make is there, and fits the pipeline file."""
    models = all(
        _has_model(pipeline, spec.name, spec.model.version, registry)
        for spec in pipeline.components
        if spec.model is not None and spec.model.estimator is not None
    )
    if not models or pipeline.weighting.weights != "learned":
        return models
    found = registry.has_weights(pipeline.name)
    return found and _fit(pipeline, registry.weights(pipeline.name))


def _has_model(pipeline: Pipeline, name: str, version: int | None, registry: Registry) -> bool:
    if not registry.has(pipeline.name, name):
        return False
    return reads(pipeline, name, registry.get(pipeline.name, name, version).card.inputs)


def _fit(pipeline: Pipeline, learned: WeightsVersion) -> bool:
    return set(learned.card.values) == set(pipeline.weighting.inputs)
