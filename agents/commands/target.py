"""PIPELINE/COMPONENT@VERSION, as commands about what is in service take it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands import model_names
from agents.commands.model_names import ModelName
from models.registry import WEIGHTS as REGISTERED_WEIGHTS
from topics.pipeline import Pipeline
from topics.records.control import POLICY, WEIGHTS

if TYPE_CHECKING:
    from agents.control import ControlTopic
    from topics.pipeline import PipelineFile
    from topics.settings import BrokerSettings

ComponentArgument = Annotated[str, typer.Argument(metavar="PIPELINE/COMPONENT[@VERSION]")]


def parsed(text: str) -> ModelName:
    """What *text* names, by the control topic's names; BadParameter for another form.

    >>> parsed("card-fraud/risk-forest@3").component
    'risk-forest'
    >>> parsed("my/pipelines/churn.yaml/@weights").component
    'weights'
    """
    try:
        name = model_names.parsed(text)
    except model_names.BadModelName as exc:
        raise typer.BadParameter(str(exc)) from exc
    return replace(name, component=WEIGHTS) if name.component == REGISTERED_WEIGHTS else name


def component_in(text: str) -> ModelName:
    """Like `parsed`, for what only components have: neither weights nor policy."""
    found = parsed(text)
    if found.component in (WEIGHTS, POLICY):
        raise typer.BadParameter(
            f"{found.component} is no component: only a component's model can be tried beside "
            "the one in service"
        )
    return found


def _check_component(name: ModelName, pipeline: Pipeline) -> None:
    """Raise BadParameter unless *pipeline* has what is named."""
    known = [spec.name for spec in pipeline.components]
    if name.component not in (*known, WEIGHTS, POLICY):
        raise typer.BadParameter(
            f"pipeline {pipeline.name} has no component {name.component!r}; it has "
            f"{', '.join(known)}"
        )


@asynccontextmanager
async def controlling(
    pipeline: str, broker: str | None, wanted: ModelName | None = None
) -> AsyncIterator[tuple[tuple[PipelineFile, BrokerSettings], ControlTopic]]:
    """A pipeline's file, the broker that it runs on, and its control topic.

    Raises BadParameter first if the pipeline has not what is *wanted*.
    """
    from agents.broker import needed_broker, wait_for_broker
    from agents.control import ControlTopic
    from topics.pipeline import Topology, find_pipeline, load_pipeline

    file, settings = load_pipeline(find_pipeline(pipeline)), needed_broker(broker)
    if wanted is not None:
        _check_component(wanted, file.pipeline)
    await wait_for_broker(settings)
    async with ControlTopic(settings, Topology.of(file.pipeline)) as control:
        yield (file, settings), control
