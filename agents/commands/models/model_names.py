"""What people call a model: `card-fraud/risk@3`, or `card-fraud/risk` for its newest version.

Weights are `card-fraud/@weights` in the registry, and `weights` on the control topic.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from topics.errors import AnabranchError

if TYPE_CHECKING:
    from models.registry import ModelVersion, Registry
    from topics.pipeline import PipelineFile

_COMPONENT = re.compile(r"(@weights|[a-z][a-z0-9-]{0,62})(?:@([1-9][0-9]{0,8}))?", re.ASCII)
_FILES = (".yaml", ".yml")

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="PIPELINE/COMPONENT[@V]", help="A version, the newest without @V; @weights too."
    ),
]
ComponentArgument = Annotated[str, typer.Argument(metavar="PIPELINE/COMPONENT[@VERSION]")]


class BadModelName(AnabranchError):
    """A word that names no model."""

    def __init__(self, name: str, form: str) -> None:
        super().__init__(f"{name!r} names no model: write {form}")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A component's model, or a pipeline's weights, in one version or the newest."""

    pipeline: str
    """As it was written: the pipeline's name or its file."""
    component: str
    version: int | None

    def __str__(self) -> str:
        which = f"{self.pipeline}/{self.component}"
        return which if self.version is None else f"{which}@{self.version}"


def model_name(text: str) -> ModelName:
    """The model that `PIPELINE/COMPONENT[@VERSION]` names; BadModelName for another form.

    >>> model_name("card-fraud/risk@3")
    ModelName(pipeline='card-fraud', component='risk', version=3)
    """
    pipeline, slash, rest = text.rpartition("/")
    form = "PIPELINE/COMPONENT@VERSION, for example card-fraud/decision@2"
    if not slash or not pipeline:
        raise BadModelName(text, form)
    component, version = _component_and_version(rest, text, form)
    return ModelName(pipeline, component, version)


def component_version(text: str) -> tuple[str, int]:
    """The component and the version of `COMPONENT@VERSION`; BadModelName for another form."""
    form = "COMPONENT@VERSION, for example decision@2"
    component, version = _component_and_version(text, text, form)
    if version is None:
        raise BadModelName(text, form)
    return component, version


def _component_and_version(text: str, whole: str, form: str) -> tuple[str, int | None]:
    match = _COMPONENT.fullmatch(text)
    if match is None:
        raise BadModelName(whole, form)
    return match[1], int(match[2]) if match[2] else None


def registered_as(pipeline: str) -> str:
    """The name that the models of *pipeline*, a name or a file, are registered under.

    A name needs no file: the registry may hold pipelines whose file is elsewhere.
    """
    from topics.pipeline import find_pipeline, load_pipeline

    if pipeline.endswith(_FILES):
        return load_pipeline(find_pipeline(pipeline)).pipeline.name
    return pipeline


def find_version(registry: Registry, model: str, beside: str | None = None) -> ModelVersion:
    """The version that *model* names; `@2` is another version of the component of *beside*."""
    from models.registry import WEIGHTS

    if beside is not None and re.fullmatch(r"@[1-9][0-9]{0,8}", model, re.ASCII):
        name = replace(model_name(beside), version=int(model[1:]))
    else:
        name = model_name(model)
    if name.component == WEIGHTS:
        raise BadModelName(model, "PIPELINE/COMPONENT@VERSION: weights are no model")
    return registry.get(registered_as(name.pipeline), name.component, name.version)


def name_in_service(text: str) -> ModelName:
    """What *text* names, by the control topic's names; BadParameter for another form.

    >>> name_in_service("card-fraud/risk-forest@3").component
    'risk-forest'
    >>> name_in_service("my/pipelines/churn.yaml/@weights").component
    'weights'
    """
    from models.registry import WEIGHTS as REGISTERED_WEIGHTS
    from topics.records import WEIGHTS

    try:
        name = model_name(text)
    except BadModelName as exc:
        raise typer.BadParameter(str(exc)) from exc
    return replace(name, component=WEIGHTS) if name.component == REGISTERED_WEIGHTS else name


def component_in_service(text: str) -> ModelName:
    """As `name_in_service`, for what only components have: neither weights nor policy."""
    from topics.records import POLICY, WEIGHTS

    name = name_in_service(text)
    if name.component in (WEIGHTS, POLICY):
        raise typer.BadParameter(
            f"{name.component} is no component: only a component's model can be tried beside "
            "the one in service"
        )
    return name


def check_component(name: ModelName, file: PipelineFile) -> None:
    """Raise BadParameter unless the pipeline has what is named."""
    from topics.records import POLICY, WEIGHTS

    components = [spec.name for spec in file.pipeline.components]
    if name.component not in (*components, WEIGHTS, POLICY):
        raise typer.BadParameter(
            f"pipeline {file.pipeline.name} has no component {name.component!r}; it has "
            f"{', '.join(components)}"
        )
