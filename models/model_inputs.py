"""Whether a registered model still reads what the pipeline file gives it."""

from __future__ import annotations

from collections.abc import Sequence

from models.features import FeatureVector
from models.registry import RegistryError
from topics.pipeline import ComponentSpec, Pipeline


class ModelOutOfDate(RegistryError):
    """The pipeline file has changed since a model was trained."""

    def __init__(self, pipeline: str, model: str, trained_on: Sequence[str]) -> None:
        super().__init__(
            f"{model} of pipeline {pipeline} was trained on {', '.join(trained_on)}; the pipeline "
            f"file gives it other columns now: run `anabranch train {pipeline}`"
        )


class WeightsOutOfDate(RegistryError):
    """The pipeline file weighs other stages than the weights were learned for."""

    def __init__(self, pipeline: str, learned_for: Sequence[str], weighed: Sequence[str]) -> None:
        super().__init__(
            f"the weights of pipeline {pipeline} were learned for {', '.join(learned_for)}; the "
            f"pipeline file weighs {', '.join(weighed)}: run `anabranch train {pipeline}`"
        )


def reads(pipeline: Pipeline, name: str, columns: Sequence[str]) -> bool:
    """Whether the model of component *name* reads just *columns*, in this order.

    Columns are called as `models.registry.ModelCard.inputs` has them. How many come from a
    component of your own is not declared: any number of its columns will do.
    """
    left = list(columns)
    spec = pipeline.component(name)
    sources = [spec] if spec.features is not None else [*map(pipeline.component, spec.inputs)]
    for source in sources:
        declared = _output_columns(source)
        if declared is None:
            declared = [it for it in left if it == source.name or it.startswith(f"{source.name}[")]
        if left[: len(declared)] != declared:
            return False
        left = left[len(declared) :]
    return not left


def _output_columns(spec: ComponentSpec) -> list[str] | None:
    """What a component gives to the next; None where only its code knows."""
    if spec.features is not None:
        return FeatureVector(spec.features).names
    return [spec.name] if spec.import_path is None else None
