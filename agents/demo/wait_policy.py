"""A pipeline whose rows wait for every stage, however long that takes."""

from __future__ import annotations

from dataclasses import replace

from topics.pipeline import PipelineFile

_STALL_TIMEOUT_S = 86_400.0
"""The longest that a pipeline file may name: a silent stage is a busy machine here."""


def without_deadline(file: PipelineFile) -> PipelineFile:
    """The same file, but nothing is decided without a stage because that stage is late or silent.

    A row that a stage fails on goes on without it, as the file says: no waiting mends that.
    """
    weighting = file.pipeline.weighting.model_copy(
        update={"late": "wait", "stall_timeout_s": _STALL_TIMEOUT_S}
    )
    return replace(file, pipeline=file.pipeline.model_copy(update={"weighting": weighting}))
