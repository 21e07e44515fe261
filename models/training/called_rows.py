"""Rows on which a component's calls fail are not trained on: serving has no answer for them either.

The calls are made once, before anything is planned; what they answered goes with the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from models.calls import CallingComponent
from models.component import Component, RowsFailed, StageOutput
from models.errors import CallsFailed
from models.training.data import TrainingData
from models.training.stage_outputs import CHUNK_ROWS, StageOutputs
from topics.pipeline import EVENTS, Pipeline

MOST_FAILED = 0.1
"""Of the rows: with more the service is down, and what is left is no sample of what is served."""

Opener = Callable[[str], Component]


class CalledRows(NamedTuple):
    """What is left to train on."""

    data: TrainingData
    kept: np.ndarray[tuple[int], np.dtype[np.bool_]]
    """Which of the N rows are left."""
    left_out: dict[str, str]
    """Component → how many rows it failed on, and why, in words."""


def called_rows(
    pipeline: Pipeline, data: TrainingData, opened: Opener,
    progress: Callable[[str, float], None] = lambda _name, _fraction: None,
) -> CalledRows:  # fmt: skip
    """The rows about which every component that calls, and reads events alone, has an answer.

    Raises CallsFailed when that is less than nine of ten.
    """
    kept, left_out = np.ones(data.rows, np.bool_), {}
    for spec in pipeline.components:
        if spec.calls is None or EVENTS not in spec.inputs or spec.name in data.called:
            continue
        component, stages = opened(spec.name), StageOutputs(pipeline, data)
        if isinstance(component, CallingComponent):
            component = component.without_deadline()
        parts, failed = [], dict[int, tuple[str, str]]()
        for start in range(0, data.rows, CHUNK_ROWS):
            rows = slice(start, min(start + CHUNK_ROWS, data.rows))
            try:
                parts.append(component.transform(stages.batch(spec.name, rows)))
            except RowsFailed as exc:
                parts.append(exc.outputs)
                failed |= {start + row: why for row, why in exc.errors.items()}
            progress(spec.name, rows.stop / data.rows)
        if failed:
            reasons = Counter(f"{name}: {reason}" for name, reason in failed.values())
            if len(failed) > MOST_FAILED * data.rows:
                raise CallsFailed(spec.name, len(failed), data.rows, reasons.most_common(1)[0][0])
            left_out[spec.name] = (
                f"{len(failed):,} of {data.rows:,} rows ({reasons.most_common(1)[0][0]})"
            )
            kept[list(failed)] = False
        data = replace(data, called={**data.called, spec.name: _joined(parts)})
    return CalledRows(data if kept.all() else data.picked(kept), kept, left_out)


def _joined(parts: list[StageOutput]) -> StageOutput:
    width = max(part.output.shape[1] for part in parts)
    return StageOutput(
        np.concatenate([
            part.output if part.output.shape[1] == width else np.zeros((len(part.output), width))
            for part in parts
        ]),
        np.concatenate([part.signal for part in parts]),
    )  # fmt: skip
