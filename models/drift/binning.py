"""Where the values of a field or signal fall: 16 places, of which three are for what is odd.

    place 0        missing
    place 1        a number far below the reference's smallest, or a category that it does not have
    places 2–14    the reference's tenths (numbers) or its categories, one place each
    place 15       a number far above the reference's largest

Far is by more than a quarter of the reference's range: a little beyond it is what ordinary weeks
bring, of a temperature that wanders for example.
Numbers of few distinct values, counts for example, have a place for each. Bins are made once, of
the reference, and never move, so counts of any two times can be compared, and added.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.arrays import Floats64

PLACES = 16
MISSING, BELOW, FIRST, ABOVE = 0, 1, 2, 15
OUTSIDE = (BELOW, ABOVE)
"""Places of what the reference does not have."""
MOST_INSIDE = ABOVE - FIRST
_TENTHS = 10
_MARGIN = 0.25
"""Of the reference's range."""

Places = NDArray[np.uint8]
"""A place for each of N rows."""


class _Bins(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NumberBins(_Bins):
    """Bins of numbers."""

    kind: Literal["number"] = "number"
    low: float
    high: float
    """What lies beyond is outside: the reference's range, and a quarter of it to each side."""
    cuts: Annotated[list[float], Field(max_length=MOST_INSIDE - 1)]
    """Ascending; a number that is equal to one belongs above it."""
    centres: Annotated[list[float], Field(min_length=1, max_length=MOST_INSIDE)]
    """The reference's mean in each bin."""
    deviation: Annotated[float, Field(ge=0)]
    """The reference's standard deviation."""

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """Bins of the reference's *values* (N,); NaN is missing. ValueError where all are."""
        numbers = np.asarray(values, np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            raise ValueError("there is no number to make bins of")
        distinct = np.unique(numbers)
        if len(distinct) <= MOST_INSIDE:
            cuts = (distinct[1:] + distinct[:-1]) / 2
        else:
            cuts = np.unique(np.quantile(numbers, np.arange(1, _TENTHS) / _TENTHS))
            cuts = cuts[cuts > distinct[0]]  # else the first bin is empty
        inside = np.searchsorted(cuts, numbers, "right")
        margin = _MARGIN * float(distinct[-1] - distinct[0])
        rows = np.bincount(inside, minlength=len(cuts) + 1)
        sums = np.bincount(inside, numbers, minlength=len(cuts) + 1)
        return cls(
            low=float(distinct[0]) - margin, high=float(distinct[-1]) + margin, cuts=cuts.tolist(),
            centres=(sums / np.maximum(rows, 1)).tolist(), deviation=float(numbers.std()),
        )  # fmt: skip

    @property
    def inside(self) -> int:
        """How many places the reference's own values take."""
        return len(self.cuts) + 1

    def places(self, values: NDArray[Any]) -> Places:
        """Where *values* (N,) fall, (N,).

        >>> NumberBins.of(np.arange(100.0)).places(np.array([np.nan, -99, 0, 55, 99, 1e6])).tolist()
        [0, 1, 2, 7, 11, 15]
        """
        numbers = np.asarray(values, np.float64)
        found = (np.searchsorted(self.cuts, numbers, "right") + FIRST).astype(np.uint8)
        found[numbers < self.low] = BELOW
        found[numbers > self.high] = ABOVE
        found[np.isnan(numbers)] = MISSING
        return found

    def within(self, values: NDArray[Any]) -> Floats64:
        """*values* (N,) drawn into the reference's range, 0 for missing: one cannot move a mean."""
        numbers = np.clip(np.asarray(values, np.float64), self.low, self.high)
        numbers[np.isnan(numbers)] = 0.0
        return numbers

    def words(self, place: int) -> str:
        """What a place holds.

        >>> NumberBins.of(np.arange(100.0)).words(3)
        '9.9 to 19.8'
        """
        odd = {
            MISSING: "missing",
            BELOW: f"far below the reference, below {self.low:.4g}",
            ABOVE: f"far above the reference, above {self.high:.4g}",
        }
        if place in odd:
            return odd[place]
        at = place - FIRST
        if not self.cuts:
            return f"{self.centres[0]:.4g}"
        if at in (0, len(self.cuts)):
            return f"{self.cuts[-1]:.4g} or more" if at else f"below {self.cuts[0]:.4g}"
        return f"{self.cuts[at - 1]:.4g} to {self.cuts[at]:.4g}"


class CategoryBins(_Bins):
    """Bins of words; of truth values too."""

    kind: Literal["category"] = "category"
    names: Annotated[list[str], Field(min_length=1, max_length=MOST_INSIDE)]

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """Bins of the reference's *values* (N,); an empty word is missing.

        ValueError where there is none, or more than 13: such a field is an identifier.
        """
        counts = Counter(str(value) for value in values.tolist())
        counts.pop("", None)
        if not 0 < len(counts) <= MOST_INSIDE:
            raise ValueError(f"{len(counts)} different words; 1 to {MOST_INSIDE} can be watched")
        return cls(names=sorted(counts))

    @property
    def inside(self) -> int:
        """How many places the reference's own values take."""
        return len(self.names)

    def places(self, values: NDArray[Any]) -> Places:
        """Where *values* (N,) fall, (N,).

        >>> CategoryBins(names=["H", "L"]).places(np.array(["L", "", "X", "H"], object)).tolist()
        [3, 0, 1, 2]
        """
        known = {name: FIRST + place for place, name in enumerate(self.names)} | {"": MISSING}
        return np.array([known.get(str(value), BELOW) for value in values.tolist()], np.uint8)

    def words(self, place: int) -> str:
        """What a place holds."""
        if place == MISSING:
            return "missing"
        return "not in the reference" if place in OUTSIDE else self.names[place - FIRST]


Bins = Annotated[NumberBins | CategoryBins, Field(discriminator="kind")]
