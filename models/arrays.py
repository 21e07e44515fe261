"""What arrays of numbers are called here, by what they hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats32 = NDArray[np.float32]
"""In which models compute."""
Floats64 = NDArray[np.float64]
