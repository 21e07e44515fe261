"""What people call a model: `card-fraud/risk@3`, or `card-fraud/risk` for its newest version."""

from __future__ import annotations

import re
from dataclasses import dataclass

from models.registry import WEIGHTS
from topics.errors import AnabranchError
from topics.pipeline import PipelineFile, PipelineNotFound, find_pipeline, load_pipeline

_COMPONENT = re.compile(rf"({WEIGHTS}|[a-z][a-z0-9-]{{0,62}})(?:@([1-9][0-9]{{0,8}}))?", re.ASCII)
_FILES = (".yaml", ".yml")


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


def parsed(name: str) -> ModelName:
    """The model that `PIPELINE/COMPONENT[@VERSION]` names; BadModelName for another form.

    >>> parsed("card-fraud/risk@3")
    ModelName(pipeline='card-fraud', component='risk', version=3)
    """
    pipeline, slash, rest = name.rpartition("/")
    form = "PIPELINE/COMPONENT@VERSION, for example card-fraud/decision@2"
    if not slash or not pipeline:
        raise BadModelName(name, form)
    component, version = _component(rest, name, form)
    return ModelName(pipeline, component, version)


def parsed_beside(name: str, other: ModelName) -> ModelName:
    """As `parsed`; `@2` is another version of the same component as *other*."""
    if re.fullmatch(r"@[1-9][0-9]{0,8}", name, re.ASCII):
        return ModelName(other.pipeline, other.component, int(name[1:]))
    return parsed(name)


def version_in(name: str) -> tuple[str, int]:
    """The component and the version of `COMPONENT@VERSION`; BadModelName for another form."""
    form = "COMPONENT@VERSION, for example decision@2"
    component, version = _component(name, name, form)
    if version is None:
        raise BadModelName(name, form)
    return component, version


def registered_as(pipeline: str) -> str:
    """The name that the models of *pipeline*, a name or a file, are registered under.

    A name needs no file: the registry may hold pipelines whose file is elsewhere.
    """
    if pipeline.endswith(_FILES):
        return load_pipeline(find_pipeline(pipeline)).pipeline.name
    return pipeline


def file_of(pipeline: str) -> PipelineFile | None:
    """The file of *pipeline*, a name or a file; None for a name whose file is elsewhere."""
    try:
        return load_pipeline(find_pipeline(pipeline))
    except PipelineNotFound:
        return None


def _component(text: str, name: str, form: str) -> tuple[str, int | None]:
    found = _COMPONENT.fullmatch(text)
    if found is None:
        raise BadModelName(name, form)
    return found[1], int(found[2]) if found[2] else None
