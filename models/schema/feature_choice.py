"""Which features a column gives, and whether it gives the label away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from models.arrays import Bools, Floats64
from models.features import FeatureVector
from models.schema.column_types import MOST_CATEGORIES
from models.schema.identifiers import is_called_identifier, is_surely_identifier
from models.schema.inferred_columns import InferredColumn
from topics.pipeline import NEVER_MISSING, Feature, Transform

SCALES = (
    ("none", "low", "medium", "high"),
    ("very low", "low", "medium", "high", "very high"),
    ("small", "medium", "large"),
    ("xs", "s", "m", "l", "xl", "xxl"),
    ("never", "rarely", "sometimes", "often", "always"),
    ("poor", "fair", "good", "very good", "excellent"),
    ("bronze", "silver", "gold", "platinum"),
    ("basic", "standard", "premium"),
)
"""Words that have an order, which an ordinal feature keeps."""

_WIDE = 100
"""An amount so many times the median makes a logarithm the better feature."""
_LARGEST = 1e30
"""Larger numbers come near the end of float32, in which models compute."""
_TELLING_AUC = 0.9995
_FEWEST_COUNTED = 20


def choose_features(
    column: InferredColumn, field: str, *, is_event_time: bool = False
) -> tuple[list[Feature], str]:
    """Features of event field *field*, and why there are none, as text.

    A missing value counts as the median; where values are missing, that is a feature too.
    """
    if column.distinct == 0 or (column.distinct == 1 and not column.missing.any()):
        return [], "constant"
    if _is_identifier(column):
        return [], "an identifier"
    if column.type == "string" and column.distinct > MOST_CATEGORIES:
        return [], f"text with {column.distinct:,} different values"
    values = column.values[~column.missing]
    if column.type != "string" and np.abs(values).max() > _LARGEST:
        return [], "numbers too large to learn from"
    candidates = list(_candidates(column, field, is_event_time=is_event_time))
    kept = [
        feature for each in candidates if (feature := _with_median(each, column, field)) is not None
    ]
    return kept, "" if kept else "always the same hour, day and month"


def _is_identifier(column: InferredColumn) -> bool:
    """Whether a column's values are names: equal or not, and nothing else."""
    if column.is_identifier or (is_surely_identifier(column.name) and column.type != "timestamp"):
        return True
    if column.type not in ("integer", "number"):
        return False
    present = column.values[~column.missing]
    whole = bool((present == np.floor(present)).all())
    if whole and is_called_identifier(column.name):
        return True
    # Counted from row to row, as a data base numbers them.
    counted = whole and not column.missing.any() and len(present) >= _FEWEST_COUNTED
    return counted and bool((np.diff(present) == 1).all())


def _candidates(column: InferredColumn, field: str, *, is_event_time: bool) -> Iterator[Feature]:
    match column.type:
        case "string":
            yield _categories(column, field)
        case "timestamp":
            parts: tuple[Transform, ...] = ("hour", "day_of_week", "month")
            for part in parts[:2] if is_event_time else parts:
                yield Feature(name=f"{field}_{part}", of=field, apply=part)
        case _ if _is_spread_wide(column.values[~column.missing]):
            yield Feature(name=f"{field}_log", of=field, apply="log1p")
        case _:
            yield Feature(name=field, of=field)
    if column.missing.any() and column.type != "string":
        yield Feature(name=f"{field}_missing", of=field, apply="missing")


def _categories(column: InferredColumn, field: str) -> Feature:
    counts = Counter(value for value in column.values.tolist() if value)
    folded = {value.casefold(): value for value in counts}
    for scale in SCALES:
        if len(folded) > 2 and folded.keys() <= set(scale) and len(folded) == len(counts):
            ordered = [folded[word] for word in scale if word in folded]
            return Feature(name=field, of=field, apply="ordinal", choices=ordered)
    return Feature(name=field, of=field, apply="one_hot", choices=sorted(counts))


def _is_spread_wide(values: Floats64) -> bool:
    """Whether amounts span orders of magnitude, so that their logarithm says more."""
    return bool(values.min() >= 0 and values.max() > _WIDE * (1 + np.median(values)))


def _with_median(feature: Feature, column: InferredColumn, field: str) -> Feature | None:
    """The feature with the median for missing values; None when it is the same in every row."""
    values = FeatureVector([feature]).compute({field: column.values})
    present = values[~np.isnan(values).any(axis=1)]
    if (present == present[0]).all():
        return None
    if feature.apply in NEVER_MISSING or not column.missing.any():
        return feature
    middle = float(np.median(present))
    if column.type in ("boolean", "integer", "timestamp") and feature.apply != "log1p":
        middle = round(middle)
    return feature.model_copy(update={"missing": float(f"{middle:.6g}")})


def tells_the_label(column: InferredColumn, outcomes: Bools) -> str:
    """How the column alone says *outcomes* (N,) without error, as text; "" when it does not."""
    missing = column.missing
    if _same_or_opposite(missing, outcomes):
        return "is missing exactly where the label has one value"
    if missing.all() or not 0 < outcomes[~missing].mean() < 1:
        return ""
    if column.type == "string":
        return _tells_by_category(column, outcomes)
    values = column.values[~missing]
    if column.distinct == 2 and not missing.any():
        same = _same_or_opposite(values == values.max(), outcomes)
        return "equals the label" if same else ""
    area = auc(values, outcomes[~missing])
    apart = max(area, 1 - area) >= _TELLING_AUC
    return "separates the label's values without error" if apart else ""


def _tells_by_category(column: InferredColumn, outcomes: Bools) -> str:
    if column.distinct > MOST_CATEGORIES:
        return ""
    _, group = np.unique(column.values.astype(str), return_inverse=True)
    rates = np.bincount(group, weights=outcomes) / np.bincount(group)
    if not np.isin(rates, (0, 1)).all():
        return ""
    equal = column.distinct == 2 and not column.missing.any()
    return "equals the label" if equal else "has values that each occur with one outcome only"


def _same_or_opposite(flags: Bools, outcomes: Bools) -> bool:
    return bool((flags == outcomes).all() or (flags != outcomes).all())


def auc(values: Floats64, outcomes: Bools) -> float:
    """The area under the ROC curve of *values* (N,), ties count half (Mann and Whitney's U).

    >>> auc(np.array([1.0, 2, 2, 3]), np.array([False, False, True, True]))
    0.875
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positives = int(outcomes.sum())
    above = ranks[outcomes].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(values) - positives)))
