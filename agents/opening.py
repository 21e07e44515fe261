"""Everything that a pipeline needs before it can run: its components and its weights."""

from __future__ import annotations

from collections.abc import Collection

from agents.components import OpenComponent, open_component
from agents.decisions import Weights
from agents.runner import WEIGH, Parts
from models.registry import Registry
from topics.errors import AnabranchError
from topics.pipeline import Pipeline
from topics.pipeline_file import PipelineFile


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
    """The pipeline's weights: those of the file, or the newest learned ones."""
    if pipeline.weighting.weights != "learned":
        return Weights(pipeline.weighting.weights, 0)
    learned = registry.weights(pipeline.name)
    return Weights(learned.card.values, learned.version)


def is_trained(pipeline: Pipeline, registry: Registry) -> bool:
    """Every model that `anabranch train` would make is there."""
    models = all(
        registry.has(pipeline.name, component.name)
        for component in pipeline.components
        if component.model is not None and component.model.estimator is not None
    )
    fixed = pipeline.weighting.weights != "learned"
    return models and (fixed or registry.has_weights(pipeline.name))
