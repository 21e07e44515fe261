"""Background rows: what an explanation compares an event with.

They are rows of the data that weights were learned for, as they stand on the topics: what the
components say whose outputs are recorded (features, and components of your own), of the same events
in the same order, so that what belongs together stays together.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from models.arrays import Floats32

BACKGROUND_ROWS = 100
"""How many rows a background has at most."""
_OUTPUT, _SIGNAL, _COLUMNS = ".output", ".signal", ".columns"


@dataclass(frozen=True, slots=True, eq=False)
class RecordedOutput:
    """What one component says of N rows."""

    output: NDArray[np.floating[Any]]
    """(N, F), float32 or float64."""
    signal: Floats32
    """(N,)."""
    columns: Sequence[str]
    """What the F columns are called."""


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """What components say of the same B rows."""

    outputs: Mapping[str, RecordedOutput]
    """Component → its output, for at least one."""

    def __post_init__(self) -> None:
        shapes = {recorded.output.shape[0] for recorded in self.outputs.values()}
        if len(shapes) != 1 or not 0 < next(iter(shapes)) <= BACKGROUND_ROWS:
            raise ValueError(f"components have {sorted(shapes)} rows, not 1 to {BACKGROUND_ROWS}")
        for name, recorded in self.outputs.items():
            _check(name, recorded)

    @property
    def rows(self) -> int:
        """B."""
        return len(next(iter(self.outputs.values())).signal)

    def to_bytes(self) -> bytes:
        """As a NumPy archive; equal bytes for equal bits."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, recorded in self.outputs.items():
            arrays[name + _OUTPUT] = recorded.output
            arrays[name + _SIGNAL] = recorded.signal
            arrays[name + _COLUMNS] = np.array(recorded.columns, np.str_)
        file = io.BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type]  # none is called allow_pickle
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Background:
        """Read what `to_bytes` wrote; ValueError when it is something else."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                names = [key.removesuffix(_OUTPUT) for key in file.files if key.endswith(_OUTPUT)]
                return cls({
                    name: RecordedOutput(
                        file[name + _OUTPUT], file[name + _SIGNAL],
                        [str(column) for column in file[name + _COLUMNS]],
                    )
                    for name in names
                })  # fmt: skip
        except (KeyError, ValueError, TypeError, OSError, EOFError, BadZipFile) as exc:
            raise ValueError(f"no background rows: {str(exc).splitlines()[0]}") from exc


def _check(name: str, recorded: RecordedOutput) -> None:
    output, signal = recorded.output, recorded.signal
    if output.dtype not in (np.float32, np.float64) or signal.dtype != np.float32:
        raise ValueError(f"{name}: outputs are float32 or float64, signals float32")
    if output.ndim != 2 or signal.shape != output.shape[:1]:
        raise ValueError(f"{name}: output {output.shape} and signal {signal.shape} do not fit")
    if output.shape[1] != len(recorded.columns):
        raise ValueError(f"{name}: {len(recorded.columns)} names for {output.shape[1]} columns")
    if not (np.isfinite(output).all() and np.isfinite(signal).all()):
        raise ValueError(f"{name}: numbers that are not finite")
