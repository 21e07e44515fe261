"""Whether a registered model still reads what the pipeline file gives it."""

from __future__ import annotations

from collections.abc import Sequence

from models.features import FeatureVector
from models.registry.registry import RegistryError
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


class WrongWidth(RegistryError):
    """A model has another number of input columns than the pipeline file gives it."""

    def __init__(self, name: str, width: int, columns: Sequence[str]) -> None:
        super().__init__(
            f"the model reads {width} columns, component {name} gives it {len(columns)}: "
            f"{', '.join(columns)}"
        )


class WidthsUnknown(RegistryError):
    """How many columns a model has to read is not declared."""

    def __init__(self, name: str, own: Sequence[str]) -> None:
        super().__init__(
            f"component {name} reads {' and '.join(own)}, components of your own, and only their "
            "code knows how many columns each gives: train it once, so that they are known"
        )


def columns_of(pipeline: Pipeline, name: str, width: int | None) -> list[str]:
    """The names of the *width* columns that a model of component *name* reads.

    A component of your own among its inputs gives as many as are left over; one, where *width* is
    not known (None). Raises WrongWidth, or WidthsUnknown when there are several such components.
    """
    declared = {source.name: _output_columns(source) for source in sources_of(pipeline, name)}
    own = [source for source, columns in declared.items() if columns is None]
    if len(own) > 1:
        raise WidthsUnknown(name, own)
    known = sum(len(columns) for columns in declared.values() if columns)
    left = 1 if width is None else max(1, width - known)
    names: list[str] = []
    for source, columns in declared.items():
        several = [f"{source}[{place}]" for place in range(left)] if left > 1 else [source]
        names += several if columns is None else columns
    if width is not None and len(names) != width:
        raise WrongWidth(name, width, names)
    return names


def reads(pipeline: Pipeline, name: str, columns: Sequence[str]) -> bool:
    """Whether the model of component *name* reads just *columns*, in this order.

    Columns are called as `models.registry.registry.ModelCard.inputs` has them. How many come from a
    component of your own is not declared: any number of its columns will do.
    """
    left = list(columns)
    for source in sources_of(pipeline, name):
        declared = _output_columns(source)
        if declared is None:
            declared = [
                column
                for column in left
                if column == source.name or column.startswith(f"{source.name}[")
            ]
        if left[: len(declared)] != declared:
            return False
        left = left[len(declared) :]
    return not left


def sources_of(pipeline: Pipeline, name: str) -> list[ComponentSpec]:
    """The components whose outputs a model reads: itself, for one that computes features."""
    spec = pipeline.component(name)
    return [spec] if spec.features is not None else [*map(pipeline.component, spec.inputs)]


def _output_columns(spec: ComponentSpec) -> list[str] | None:
    """What a component gives to the next; None where only its code knows."""
    if spec.features is not None:
        return FeatureVector(spec.features).names
    return [spec.name] if spec.import_path is None else None
