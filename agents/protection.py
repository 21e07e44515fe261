"""Versions that `anabranch models gc` leaves, whatever their age.

Each entry of PROTECTORS names versions that something of the pipeline needs; one that cannot
tell raises an AnabranchError, and nothing is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from models.retention import VersionKey
from topics.pipeline_file import PipelineFile

Protector = Callable[[PipelineFile], Iterable[VersionKey]]


def pinned(file: PipelineFile) -> Iterable[VersionKey]:
    """What the pipeline file keeps components on."""
    for spec in file.pipeline.components:
        if spec.model is not None and spec.model.version is not None:
            yield spec.name, spec.model.version


PROTECTORS: tuple[Protector, ...] = (pinned,)


def protected_by(file: PipelineFile) -> set[VersionKey]:
    """All versions that something needs."""
    return {key for protector in PROTECTORS for key in protector(file)}
