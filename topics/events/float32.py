"""From float64 to float32, in which models compute: a number that does not fit is told.

numpy makes infinity of it, with a warning on stderr, and of infinity a model makes a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from topics.errors import AnabranchError

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
"""About 3.4e38."""


class BeyondFloat32(AnabranchError):
    """A finite number is too large for float32."""

    def __init__(self, number: float, where: str) -> None:
        super().__init__(
            f"{where} is {number:.4g}: models compute in float32, up to ±{LARGEST_FLOAT32:.4g}"
        )


def as_float32(values: NDArray[Any], names: Sequence[str] = ()) -> NDArray[np.float32]:
    """*values*, (N, F) or (N,), as float32; the same array where it is float32 already.

    NaN and infinity stay what they are. Raises BeyondFloat32, which tells the first number that
    does not fit, by the name of its column if *names* (F) are given.
    """
    if values.dtype == np.float32:
        return values
    try:
        with np.errstate(over="raise"):
            return values.astype(np.float32)
    except FloatingPointError:
        at = np.argwhere(np.isfinite(values) & (np.abs(values) > LARGEST_FLOAT32))[0]
        column = int(at[-1])
        where = names[column] if names else f"column {column + 1}"
        raise BeyondFloat32(float(values[tuple(at)]), where) from None
