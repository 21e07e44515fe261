"""What drift will be measured against: what each component reads and says, and the score.

Fields are those of all rows; signals and the score those of the rows that no model was fitted on,
as a model says other things of rows that it knows. So signals have fewer days, and a detector
completes them in service.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.arrays import Ints
from models.drift.reference import Reference
from models.report.ablation import scores_of
from models.training.data import TrainingData
from models.training.stage_outputs import StageOutputs
from topics.pipeline import EVENTS, OUTCOMES, ComponentSpec, Pipeline

SCORE = "score"


def component_references(
    pipeline: Pipeline, stages: StageOutputs, held_out: slice, names: Collection[str]
) -> dict[str, bytes]:
    """Of components *names*: the event fields that each reads, its signal on rows *held_out*."""
    times = _times(pipeline, stages.data)
    references = {}
    for name in names:
        spec = pipeline.component(name)
        fields = {field: stages.data.columns[field] for field in fields_of(pipeline, spec)}
        read = Reference.of_columns("event", fields, times, together=name)
        signal = {name: stages.signals([name], held_out)[:, 0]}
        said = Reference.of_columns("signal", signal, None if times is None else times[held_out])
        references[name] = Reference.joined([read, said]).to_bytes()
    return references


def score_reference(
    pipeline: Pipeline, stages: StageOutputs, held_out: slice, weights: Mapping[str, float]
) -> bytes:
    """Of the score that *weights* give the rows *held_out*."""
    times = _times(pipeline, stages.data)
    signals = stages.signals([*weights], held_out)
    scores: dict[str, NDArray[Any]] = {SCORE: scores_of(signals, [*weights.values()])}
    return Reference.of_columns(
        "signal", scores, None if times is None else times[held_out]
    ).to_bytes()


def fields_of(pipeline: Pipeline, spec: ComponentSpec) -> list[str]:
    """The event fields that a component reads, but for what names the event: own code reads all."""
    if EVENTS not in spec.inputs:
        return []
    event = pipeline.event
    if spec.features is None:
        read = [*event.fields]
    else:
        read = [each.of for each in spec.features if each.of not in (EVENTS, OUTCOMES)]
    named = {event.id, event.key, event.time}
    return [name for name in dict.fromkeys(read) if name not in named]


def _times(pipeline: Pipeline, data: TrainingData) -> Ints | None:
    """Event times in milliseconds; None where the rows have none of their own."""
    if pipeline.data.published_at is not None:
        return None
    return np.asarray(data.columns[pipeline.event.time], np.int64)
