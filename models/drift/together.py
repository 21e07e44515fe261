"""How unlike the reference the numbers of a row are together: what each alone does not show.

The Mahalanobis distance (*On the Generalised Distance in Statistics*, 1936) of a row's standard
scores, each drawn to three standard deviations. If two fields that rose together no longer do, each
may look as ever, but their rows are far from the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.arrays import Floats64

_DEVIATIONS = 3.0
_LEAST_SPREAD = 1e-9
"""Of the largest value: what is less apart is equal but for rounding."""
_RIDGE = 0.1
"""Of the identity in the correlations: fields that say the same make none that is singular."""


class Together(BaseModel):
    """Standard scores and correlations of F fields of the reference."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    fields: Annotated[list[str], Field(min_length=2)]
    means: list[float]
    deviations: list[float]
    precision: list[list[float]]
    """The inverse of their correlations, (F, F)."""

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[Any]]) -> Self | None:
        """Of the numbers among *columns* (N,); None where fewer than two of them vary."""
        numbers = {
            name: np.asarray(values, np.float64)
            for name, values in columns.items()
            if values.ndim == 1 and values.dtype.kind in "if"
        }
        varied = {name: values for name, values in numbers.items() if _varies(values)}
        if len(varied) < 2:
            return None
        means = [float(np.nanmean(values)) for values in varied.values()]
        deviations = [float(np.nanstd(values)) for values in varied.values()]
        scores = _scores(list(varied.values()), means, deviations)
        ones = np.eye(len(varied))
        correlations = np.corrcoef(scores) * (1 - _RIDGE) + ones * _RIDGE
        return cls(
            fields=list(varied), means=means, deviations=deviations,
            precision=np.linalg.inv(correlations).tolist(),
        )  # fmt: skip

    def distances(self, columns: Mapping[str, NDArray[Any]]) -> Floats64:
        """The distance of each of N rows, (N,); 1 is usual. A missing value counts as the mean."""
        values = [np.asarray(columns[name], np.float64) for name in self.fields]
        scores = _scores(values, self.means, self.deviations)
        squares = np.einsum("fn,fg,gn->n", scores, np.array(self.precision), scores)
        distances: Floats64 = np.sqrt(np.maximum(squares, 0.0) / len(self.fields))
        return distances


def _varies(values: NDArray[np.float64]) -> bool:
    """Whether there are two values: the deviation of equal ones may be a rounding above 0."""
    known = values[~np.isnan(values)]
    return len(known) > 0 and bool(np.ptp(known) > _LEAST_SPREAD * np.abs(known).max())


def _scores(
    values: list[NDArray[np.float64]], means: list[float], deviations: list[float]
) -> Floats64:
    scores = (np.stack(values) - np.array(means)[:, None]) / np.array(deviations)[:, None]
    bounded: Floats64 = np.nan_to_num(np.clip(scores, -_DEVIATIONS, _DEVIATIONS), nan=0.0)
    return bounded
