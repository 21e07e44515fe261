"""What can go wrong while variants are made and measured.

AnabranchError
└── VariantError
    ├── DoesNotApply       this kind of variant has no meaning for the model
    ├── NothingToOptimise  the pipeline, or the component, has no model in the registry
    └── NoDrawing          a plot cannot be written there
"""

from __future__ import annotations

from collections.abc import Collection

from topics.errors import AnabranchError


class VariantError(AnabranchError):
    """Variants cannot be made or measured."""


class DoesNotApply(VariantError):
    """This kind of variant has no meaning for the model."""


class NothingToOptimise(VariantError):
    """The pipeline, or the component, has no model in the registry."""

    def __init__(self, pipeline: str, component: str | None, known: Collection[str]) -> None:
        which = f"component {component!r} of pipeline {pipeline}" if component else pipeline
        have = f"those with one: {', '.join(known)}" if known else "no component of it has one"
        super().__init__(f"{which} has no model from the registry to optimise; {have}")


class NoDrawing(VariantError):
    """A plot cannot be written there."""

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(f"no plot can be written to {path}: {cause}")
