"""PIPELINE/COMPONENT@VERSION, as commands about models take it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from topics.control import POLICY, WEIGHTS
from topics.pipeline import Pipeline

if TYPE_CHECKING:
    from agents.control_topic import ControlTopic
    from topics.pipeline_file import PipelineFile
    from topics.settings import BrokerSettings

ComponentArgument = Annotated[str, typer.Argument(metavar="PIPELINE/COMPONENT[@VERSION]")]


class Target(NamedTuple):
    """What a command is about."""

    pipeline: str
    """A name, or the path of a pipeline file."""
    name: str
    """A component, `weights`, `policy`, or nothing for the whole pipeline."""
    version: int | None

    def check(self, pipeline: Pipeline) -> None:
        """Raise BadParameter unless *pipeline* has that component."""
        known = [spec.name for spec in pipeline.components]
        if self.name and self.name not in (*known, WEIGHTS, POLICY):
            raise typer.BadParameter(
                f"pipeline {pipeline.name} has no component {self.name!r}; it has "
                f"{', '.join(known)}"
            )


def component_in(text: str) -> Target:
    """Like `parsed`, for what only components have: neither weights nor policy."""
    found = parsed(text)
    if found.name in (WEIGHTS, POLICY):
        raise typer.BadParameter(f"{found.name} are no component: only a component's model can be "
                                 "tried beside the one in service")  # fmt: skip
    return found


def parsed(text: str) -> Target:
    """The target that *text* names; BadParameter for one that names no component.

    >>> parsed("card-fraud/risk-forest@3")
    Target(pipeline='card-fraud', name='risk-forest', version=3)
    >>> parsed("my/pipelines/churn.yaml/weights")
    Target(pipeline='my/pipelines/churn.yaml', name='weights', version=None)
    """
    pipeline, _, rest = text.rpartition("/")
    name, at, version = rest.partition("@")
    if not pipeline or not name or (at and not (version.isdecimal() and int(version) > 0)):
        raise typer.BadParameter(
            f"{text!r} names no component: give PIPELINE/COMPONENT, or PIPELINE/COMPONENT@VERSION"
        )
    return Target(pipeline, name, int(version) if at else None)


@asynccontextmanager
async def controlling(
    wanted: Target, broker: str | None
) -> AsyncIterator[tuple[tuple[PipelineFile, BrokerSettings], ControlTopic]]:
    """The pipeline file and the broker that a command is about, and its control topic."""
    from agents.brokers import needed_broker, wait_for_broker
    from agents.control_topic import ControlTopic
    from topics.pipeline_file import find_pipeline, load_pipeline
    from topics.topology import Topology

    file, settings = load_pipeline(find_pipeline(wanted.pipeline)), needed_broker(broker)
    wanted.check(file.pipeline)
    await wait_for_broker(settings)
    async with ControlTopic(settings, Topology.of(file.pipeline)) as control:
        yield (file, settings), control
