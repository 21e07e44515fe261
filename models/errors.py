"""What can go wrong while a pipeline is trained.

AnabranchError
├── EstimatorError
│   ├── EstimatorNotFound    the import path leads to no scikit-learn estimator
│   ├── LibraryMissing       the estimator's library, or what exports it, is not installed
│   ├── UnknownParameter     the estimator has no parameter of that name
│   ├── NoSignal             it has neither predict_proba nor score_samples
│   ├── NotFinite            a column to fit on holds NaN or infinity
│   ├── NothingVaries        every column to fit on has one value only
│   ├── NoWeights            rows count by weights, and the estimator takes none
│   ├── NotCalibratable      too few rows of one outcome to calibrate on
│   └── FitFailed            the estimator itself refuses to be fitted
└── TrainingError
    ├── LengthMismatch       a column or the labels are not as long as the data
    ├── MissingField         the data has no column for a field that a component reads
    ├── HoldoutSeen          rows that are declared unseen are also among those to train on
    ├── TooManyRows          there is no memory to train on so many
    ├── TooFewRows           too little data to train and to hold some back
    ├── OneClass             a block of rows has frauds only, or none
    ├── NotTrainable         `only` names a component that is not trained here
    ├── ComponentFailed      a component fails on rows that serving would give it
    ├── CallsFailed          a component's calls fail on so many rows that the rest is no sample
    └── WeightsNotOptimal    the search for weights stopped too far from the optimum
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from topics.errors import AnabranchError

_MOST_LISTED = 60
"""Parameters that an error lists."""


class EstimatorError(AnabranchError):
    """An estimator of the pipeline file cannot be made or fitted."""


class EstimatorNotFound(EstimatorError):
    """The import path leads to no scikit-learn estimator."""

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(
            f"estimator {path!r} cannot be loaded: {cause}; "
            "give an import path such as sklearn.linear_model.LogisticRegression"
        )


class LibraryMissing(EstimatorError):
    """The estimator's library, or what makes ONNX of it, is not installed."""

    def __init__(self, path: str, modules: Sequence[str], extra: str) -> None:
        which = "is" if len(modules) == 1 else "are"
        super().__init__(
            f"estimator {path!r} cannot be trained: {' and '.join(modules)} {which} not "
            f"installed; pip install 'anabranch[{extra}]'"
        )


class UnknownParameter(EstimatorError):
    """The estimator has no parameter of that name."""

    def __init__(self, path: str, names: Sequence[str], known: Collection[str]) -> None:
        which = "parameter" if len(names) == 1 else "parameters"
        listed = sorted(known)
        if len(listed) > _MOST_LISTED:  # LightGBM's, with their aliases, are hundreds
            listed = sorted({near for name in names for near in get_close_matches(name, listed, 5)})
        it_has = f"it has {', '.join(listed) or 'none'}"
        if len(known) > len(listed):
            it_has = f"of its {len(known)} these are nearest: {', '.join(listed) or 'none'}"
        super().__init__(f"estimator {path!r} has no {which} {', '.join(names)}; {it_has}")


class NoSignal(EstimatorError):
    """The estimator can say neither how likely a row is positive, nor how unlike the data."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"estimator {path!r} gives no signal: it is neither a classifier with predict_proba "
            "nor a detector with score_samples (some need a parameter for it)"
        )


class NotFinite(EstimatorError):
    """A column to fit on holds NaN, infinity, or a number too large for float32."""

    def __init__(self, columns: Sequence[str], rows: int) -> None:
        which = "column" if len(columns) == 1 else "columns"
        super().__init__(
            f"{which} {', '.join(columns)} to fit on {'holds' if which == 'column' else 'hold'} "
            f"NaN, infinity or numbers beyond float32, in {rows} rows; "
            "give every row a value, or leave the feature out"
        )


class NothingVaries(EstimatorError):
    """Every column to fit on has one value only."""

    def __init__(self, columns: Sequence[str]) -> None:
        which = "the column" if len(columns) == 1 else f"each of {len(columns)} columns"
        super().__init__(
            f"{which} to fit on ({', '.join(columns[:8])}{', …' if len(columns) > 8 else ''}) has "
            "one value only, so there is nothing to learn from; use other features"
        )


class NoWeights(EstimatorError):
    """Rows count by weights, and the estimator takes none."""

    def __init__(self, estimator: str) -> None:
        super().__init__(
            f"{estimator} takes no sample_weight, but some of the rows were explored and stand for "
            "1 / propensity rows each: choose another estimator"
        )


class NotCalibratable(EstimatorError):
    """There are too few rows of one outcome to calibrate on rows that were not fitted on."""

    def __init__(self, positives: int, rows: int) -> None:
        super().__init__(
            f"the signal cannot be calibrated: {positives} of {rows} rows are positive, and all "
            "of one outcome lie in the same fifth of the time; give more rows, or leave "
            "calibration: out"
        )


class FitFailed(EstimatorError):
    """The estimator itself refuses to be fitted."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"estimator {name} cannot be fitted: {' '.join(cause.split())}")


class TrainingError(AnabranchError):
    """A pipeline cannot be trained on this data."""


class LengthMismatch(TrainingError):
    """A column or the labels are not as long as the data."""

    def __init__(self, what: str, count: int, wanted: int) -> None:
        super().__init__(f"{what} must have one value for each of {wanted} rows, but has {count}")


class MissingField(TrainingError):
    """The data has no column for a field that a component reads."""

    def __init__(self, fields: Sequence[str]) -> None:
        which = "field" if len(fields) == 1 else "fields"
        super().__init__(f"the training data has no column for the event {which} "
                         f"{', '.join(fields)}")  # fmt: skip


class TooFewRows(TrainingError):
    """Too little data to train and to hold some back."""

    def __init__(self, rows: int, wanted: int) -> None:
        some = f"only {rows} rows" if rows else "no rows"
        super().__init__(f"{some} to train on; training needs at least {wanted}")


class HoldoutSeen(TrainingError):
    """Rows that are declared unseen are also among those to train on."""

    def __init__(self, count: int, field: str, example: str) -> None:
        super().__init__(
            f"{count:,} events of the holdout are in the training data too, by {field} (one is "
            f"{example}): figures are of rows that no model has seen, so give other files"
        )


class TooManyRows(TrainingError):
    """Training on so many rows needs more memory than there is."""

    def __init__(self, what: str, rows: int, needed: int, free: int) -> None:
        super().__init__(
            f"{what}: about {rows:,} rows need about {needed / 2**30:,.1f} GiB of memory to train "
            f"on, {free / 2**30:,.1f} GiB are free; give at most "
            f"{int(rows * free / needed):,} rows, or a machine with more memory"
        )


class OneClass(TrainingError):
    """All rows of a block, or of all blocks (a block without a name), have the same label."""

    def __init__(self, block: str, start: int, stop: int, label: bool) -> None:
        super().__init__(
            f"all {stop} labels are {int(label)}: give rows of both outcomes"
            if not block
            else f"all labels are {int(label)} in rows {start} to {stop - 1}, the block {block}; "
            "give more rows, so that each block (in time order) has both 0 and 1"
        )


class NotTrainable(TrainingError):
    """`only` names a component that is not trained here."""

    def __init__(self, name: str, reason: str, trainable: Collection[str]) -> None:
        known = ", ".join(trainable) or "none"
        super().__init__(f"component {name!r} cannot be trained: {reason}; trainable: {known}")


class ComponentFailed(TrainingError):
    """A component fails on rows that serving would give it."""

    def __init__(self, name: str, start: int, stop: int, cause: str) -> None:
        super().__init__(f"component {name} fails on rows {start} to {stop - 1}: {cause}")


class CallsFailed(TrainingError):
    """A component's calls fail on so many rows that the others say little of what is served."""

    def __init__(self, name: str, failed: int, rows: int, cause: str) -> None:
        super().__init__(
            f"component {name}: its calls failed on {failed:,} of {rows:,} rows, most of them by "
            f"{cause}; is what it asks up, and fast enough for `calls:`? A `default:` there stands "
            "in for answers"
        )


class WeightsNotOptimal(TrainingError):
    """The search for weights stopped too far from the optimum."""

    def __init__(self, gap: float, allowed: float) -> None:
        super().__init__(
            f"the learned weights may lose up to {gap:.2g} log loss on the best ones, more than "
            f"{allowed:g}; train on more rows, or fix weights: in the pipeline file"
        )
