"""What a component is: `load()` opens what it needs, `transform(batch)` is a pure function.

class Velocity(Component):
    def transform(self, batch: Batch) -> StageOutput:
        amounts = batch.columns["amount"]
        return StageOutput.of_signal(np.clip(amounts / 500, 0, 1))

What is known of one before it is opened says `topics.pipeline.component_kinds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats32
from topics.events import as_float32

Floats = NDArray[np.floating[Any]]
Column = NDArray[Any]


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What a component says about N rows.

    `output` (N, F), float32 or float64, is what the next stage reads, and has to fit float32,
    in which models compute; `signal` (N,), float32 in [0, 1], is what the weighting agent weighs.
    """

    output: Floats
    signal: Floats32

    @classmethod
    def of_signal(cls, signal: Floats) -> StageOutput:
        """An output of one column that is the signal itself."""
        with np.errstate(over="ignore"):  # to infinity, which is no signal
            values = np.asarray(signal, dtype=np.float32)
        return cls(output=values[:, None], signal=values)


@dataclass(frozen=True, slots=True)
class Batch:
    """N valid rows, as columns.

    `columns` holds the event's fields for a component that reads `events`: float64 for
    number, int64 for integer and timestamp (milliseconds since 1970), bool, str objects,
    and (N, length) float64 for a vector; a missing optional field is NaN or "".
    Windowed features are there too, by the names of their columns.
    `inputs` holds the outputs of the stages that the component reads, by stage name.
    """

    rows: int
    columns: Mapping[str, Column] = field(default_factory=dict)
    inputs: Mapping[str, StageOutput] = field(default_factory=dict)

    def matrix(self) -> Floats32:
        """All inputs' outputs side by side, in the order of `from:`; (N, ΣF), float32.

        Raises BeyondFloat32 for a number that float32 does not hold.
        """
        blocks = [as_float32(np.asarray(stage.output)) for stage in self.inputs.values()]
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)


class RowsFailed(Exception):  # says which rows, not that something is wrong
    """Raised by a component's `transform` that knows which of its N rows failed, and why.

    The others' outputs are used: nothing is run again by halves.
    """

    def __init__(self, outputs: StageOutput, errors: Mapping[int, tuple[str, str]]) -> None:
        first = next(iter(errors.values()), ("", ""))
        super().__init__(f"{len(errors)} of {len(outputs.signal)} rows failed: {': '.join(first)}")
        self.outputs = outputs
        """Of all N rows; those that failed may hold anything valid."""
        self.errors = errors
        """Row → (class, reason)."""


class Component:
    """A stage of a pipeline. Subclass it, implement `transform`, name it in the pipeline file."""

    def load(self) -> None:
        """Open what `transform` needs (a model session, a table). Called once, at start."""

    def transform(self, batch: Batch) -> StageOutput:
        """Map rows to outputs, row by row: the same row gives the same bits in any batch.

        It must not change its arguments or keep state. An exception fails the batch; the
        rows that cause it are found by halving, and only they fail.
        """
        raise NotImplementedError
