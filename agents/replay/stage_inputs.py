"""What a component reads of N events of a partition: their columns, or what others say of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from agents.join import StageRows
from agents.replay.event_columns import EventColumns, WindowColumns
from agents.replay.stage_outputs import BatchOf, joined_batch
from models.component import Batch
from topics.pipeline import EVENTS, ComponentSpec, Pipeline
from topics.records import Bools, Ints


class StageInputs(NamedTuple):
    """What a component reads of N events."""

    batch_of: BatchOf
    valid: Bools
    """Rows (N,) that it is run on: all its inputs have them."""
    windows: WindowColumns | None = None
    """Of N rows."""


def stage_inputs(
    pipeline: Pipeline, spec: ComponentSpec, columns: EventColumns,
    keyed: Mapping[str, WindowColumns], stages: Mapping[str, StageRows],
) -> StageInputs:  # fmt: skip
    """What *spec* reads: of *columns*, the windows of another key (*keyed*), or other *stages*."""
    n, decoded = len(columns.rows), columns.decoded
    if EVENTS not in spec.inputs:
        inputs = {name: stages[name] for name in spec.inputs}
        valid = np.logical_and.reduce([stage.present for stage in inputs.values()])
        return StageInputs(joined_batch(inputs), valid)
    valid = np.zeros(n, np.bool_)
    valid[decoded.valid] = True
    if pipeline.is_repartitioned(spec.name):
        windows = keyed.get(spec.name)
        of_key = {} if windows is None else windows.columns

        def keyed_batch(rows: Ints) -> Batch:
            own = {name: column[rows] for name, column in of_key.items()}
            return Batch(rows=len(rows), columns=own)

        return StageInputs(keyed_batch, valid, windows)
    place = np.zeros(n, np.int64)
    place[decoded.valid] = np.arange(len(decoded.valid))
    of_valid = columns.windows.get(spec.name)
    every = {**decoded.columns, **({} if of_valid is None else of_valid.columns)}

    def batch(rows: Ints) -> Batch:
        if len(rows) == len(decoded.valid):
            return Batch(rows=len(rows), columns=every)
        own = {name: column[place[rows]] for name, column in every.items()}
        return Batch(rows=len(rows), columns=own)

    return StageInputs(batch, valid, None if of_valid is None else _of_all(of_valid, place))


def _of_all(of_valid: WindowColumns, place: Ints) -> WindowColumns:
    """Of N rows, what is known of the valid ones (M,), each at its *place* there (N,)."""
    if not len(of_valid.whole):
        nothing = np.zeros(len(place), np.bool_)
        return WindowColumns({}, nothing, nothing)
    return WindowColumns({}, of_valid.whole[place], of_valid.in_time[place])
