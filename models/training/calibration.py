"""A signal's calibration: a monotone map to the share that came true, as part of the ONNX model.

It is fitted on signals of rows that the model behind them was not fitted on: for each of
five spans of time, a model of the same kind is fitted on the others and run on it. As with
scikit-learn's `CalibratedClassifierCV(ensemble=False)`, one map of all of them is then put
behind the model that is fitted on all rows.

    sigmoid    1 / (1 + exp(-(a · logit(signal) + b))), a ≥ 0: Platt, *Probabilistic Outputs for
               Support Vector Machines*, 1999, with his targets; a = 1, b = 0 changes nothing
    isotonic   the best map that never falls (Zadrozny & Elkan, KDD 2002), straight between its
               steps; it needs many positives, and makes ties where the signal ranks wrongly
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from models.errors import NotCalibratable

Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]
Labels = NDArray[np.bool_]
FitSignal = Callable[[NDArray[np.int64]], Callable[[Singles], Singles]]
"""Fits a model on the rows given, and returns its signal of other rows."""

NEAREST = 2.0**-20
"""How near to 0 and 1 a signal may be for its logit: about 1e-6, and exact in float32."""
FOLDS = 5


class Calibration(Protocol):
    """A monotone map of signals in [0, 1] to signals in [0, 1]."""

    def of(self, signal: NDArray[np.floating]) -> Doubles:
        """The calibrated signals (N,)."""


class Sigmoid:
    """A straight line of logits."""

    def __init__(self, slope: float, shift: float) -> None:
        self.slope, self.shift = slope, shift

    def of(self, signal: NDArray[np.floating]) -> Doubles:
        """The calibrated signals (N,)."""
        made: Doubles = 1 / (1 + np.exp(-(self.slope * _logit(signal) + self.shift)))
        return made


class Isotonic:
    """Straight lines between knots whose ordinates never fall; level beyond the outer ones."""

    def __init__(self, x: Doubles, y: Doubles) -> None:
        # As float32, so that ONNX has the same knots; equal abscissas are one knot.
        at, first = np.unique(x.astype(np.float32), return_index=True)
        self.x, self.y = at.astype(np.float64), y[first]

    def of(self, signal: NDArray[np.floating]) -> Doubles:
        """The calibrated signals (N,)."""
        return np.interp(signal.astype(np.float64), self.x, self.y)


def fitted_map(
    kind: Literal["sigmoid", "isotonic"], signal: NDArray[np.floating], labels: Labels
) -> Calibration:
    """The map of *kind* from *signal* (N,) to the share of *labels* (N,) that are true."""
    if kind == "isotonic":
        found = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(signal, labels)
        return Isotonic(found.X_thresholds_, found.y_thresholds_)
    return _sigmoid(_logit(signal), labels)


def unseen_signals(x: Singles, labels: Labels, fit: FitSignal) -> Singles:
    """The signal (N,) of each row of *x* (N, F), by a model that was not fitted on it.

    Rows are in time order. Raises NotCalibratable when a fit would see one class only.
    """
    signals = np.empty(len(x), np.float32)
    for inside in _spans(len(x)):
        others = np.concatenate([np.arange(inside.start), np.arange(inside.stop, len(x))])
        if labels[others].all() or not labels[others].any():
            raise NotCalibratable(int(labels.sum()), len(labels))
        signals[inside] = fit(others)(x[inside])
    return signals


def _sigmoid(logits: Doubles, labels: Labels) -> Sigmoid:
    positives, negatives = int(labels.sum()), int((~labels).sum())
    # Platt's targets: a separable signal has no steepest slope that fits best.
    target = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    found = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
        np.tile(logits, 2)[:, None],
        np.repeat([True, False], len(labels)),
        np.concatenate([target, 1 - target]),
    )
    slope, shift = float(found.coef_[0, 0]), float(found.intercept_[0])
    if slope >= 0:
        return Sigmoid(slope, shift)
    share = target.mean()  # a signal that ranks the wrong way says no more than the base rate
    return Sigmoid(0.0, float(np.log(share / (1 - share))))


def _logit(signal: NDArray[np.floating]) -> Doubles:
    p = np.clip(signal.astype(np.float64), NEAREST, 1 - NEAREST)
    made: Doubles = np.log(p / (1 - p))
    return made


def _spans(rows: int) -> Iterator[slice]:
    edges = [rows * fold // FOLDS for fold in range(FOLDS + 1)]
    return (slice(edges[fold], edges[fold + 1]) for fold in range(FOLDS))
