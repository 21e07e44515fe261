"""A pipeline whose rows wait for every stage, however long that takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from topics.pipeline import Weighting
from topics.pipeline_file import PipelineFile

_DEADLINE_MS = 3_600_000
"""The longest that a pipeline file may name. Rows that live ones must follow wait a part of it."""
_STALL_TIMEOUT_S = 86_400.0


def without_deadline(file: PipelineFile) -> PipelineFile:
    """The same file, but nothing is decided without a stage because that stage is late.

    A row that a stage fails on goes on without it, as the file says: no waiting mends that.
    """
    update: dict[str, Any] = {"deadline_ms": _DEADLINE_MS, "stall_timeout_s": _STALL_TIMEOUT_S}
    if "late" in Weighting.model_fields:
        update["late"] = "wait"
    weighting = file.pipeline.weighting.model_copy(update=update)
    return replace(file, pipeline=file.pipeline.model_copy(update={"weighting": weighting}))
