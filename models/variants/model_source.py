"""Where a pipeline's models come from, and how its components are opened with others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from models.component import Component
from models.onnx.model_component import ComponentOpener
from models.registry import ModelVersion, Registry
from models.variants.errors import NothingToOptimise
from models.variants.offline_pipeline import Components
from models.variants.variant_kinds import FP32
from topics.pipeline import Pipeline, in_order, kind_of


class ModelSource(NamedTuple):
    """Where a pipeline is, and how its components are opened."""

    pipeline: Pipeline
    folder: Path
    """The pipeline file's."""
    registry: Registry
    weights: Mapping[str, float]
    """α by stage, as the weighting agent has them."""
    open_component: ComponentOpener


def originals_of(source: ModelSource, only: str | None) -> dict[str, ModelVersion]:
    """The fp32 model of each component that is to be optimised. Raises NothingToOptimise."""
    pipeline = source.pipeline
    able = [
        spec.name for spec in pipeline.components
        if kind_of(spec).has_model and spec.model is not None and spec.model.path is None
    ]  # fmt: skip
    wanted = [name for name in in_order(pipeline) if name in able and only in (None, name)]
    if not wanted:
        raise NothingToOptimise(pipeline.name, only, able)
    return {name: _original(source, name) for name in wanted}


def _original(source: ModelSource, name: str) -> ModelVersion:
    model = source.pipeline.component(name).model
    wanted = model.version if model is not None else None
    version = source.registry.get(source.pipeline.name, name, wanted)
    while version.card.variant != FP32 and version.card.parent is not None:
        version = source.registry.get(source.pipeline.name, name, version.card.parent)
    return version


def components_of(source: ModelSource, versions: Mapping[str, ModelVersion]) -> Components:
    """All components, those of *versions* with these models, the others as serving has them."""
    pipeline = source.pipeline
    for name, version in versions.items():
        pipeline = pipeline.with_version(name, version.version)
    return {
        name: source.open_component(pipeline, name, source.registry, source.folder).component
        for name in in_order(pipeline)
    }


OpenVariant = Callable[[str, bytes, str], Component]


@contextmanager
def opening_aside(
    source: ModelSource, originals: Mapping[str, ModelVersion]
) -> Iterator[OpenVariant]:
    """Open a variant of a component just as serving would, from a registry that is thrown away."""
    with TemporaryDirectory(prefix="anabranch-variants-") as folder:
        registry = Registry(Path(folder))

        def opened(name: str, onnx: bytes, variant: str) -> Component:
            card = originals[name].card.model_copy(update={"variant": variant})
            version = registry.add(source.pipeline.name, name, onnx, card)
            pipeline = source.pipeline.with_version(name, version.version)
            return source.open_component(pipeline, name, registry, source.folder).component

        yield opened
