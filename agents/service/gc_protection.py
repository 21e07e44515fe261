"""Versions that `anabranch models gc` leaves, whatever their age.

Each entry of PROTECTORS names versions that something of the pipeline needs; one that cannot
tell raises an AnabranchError, and nothing is removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from agents.broker import broker_settings, topic_names, wait_for_broker
from agents.control import ControlTopic
from models.registry import WEIGHTS, VersionKey
from topics.pipeline import PipelineFile, Topology
from topics.records import ControlState
from topics.settings import BrokerSettings, HomeSettings

Protector = Callable[[PipelineFile], Iterable[VersionKey]]


def pinned(file: PipelineFile) -> Iterable[VersionKey]:
    """What the pipeline file keeps components on."""
    for spec in file.pipeline.components:
        if spec.model is not None and spec.model.version is not None:
            yield spec.name, spec.model.version


def in_service(file: PipelineFile) -> Iterable[VersionKey]:
    """What the control topic says runs, ran before, or challenges; nothing without a broker."""
    settings = broker_settings(None, HomeSettings())
    if settings is None:
        return
    state = asyncio.run(_state(settings, Topology.of(file.pipeline)))
    for name, deployment in state.deployments.items():
        for version in (deployment.champion, deployment.previous, deployment.challenger):
            if version is not None:
                yield name, version.version
    if state.weights is not None:
        for number in (state.weights.version, state.weights.previous):
            if number is not None:
                yield WEIGHTS, number


async def _state(settings: BrokerSettings, topology: Topology) -> ControlState:
    await wait_for_broker(settings)
    if topology.control not in await topic_names(settings, [topology.control]):
        return ControlState()
    async with ControlTopic(settings, topology) as control:
        return control.state


PROTECTORS: tuple[Protector, ...] = (pinned, in_service)


def protected_by(file: PipelineFile) -> set[VersionKey]:
    """All versions that something needs."""
    return {key for protector in PROTECTORS for key in protector(file)}
