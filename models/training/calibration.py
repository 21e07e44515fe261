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
from typing import Any, Literal, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from models.arrays import Floats32, Floats64, Ints
from models.errors import NotCalibratable
from models.onnx.bit_stability import moving_rows
from models.onnx.session import ModelSession
from models.training.export import BatchDependent, ExportMismatch

Labels = NDArray[np.bool_]
FitSignal = Callable[[Ints], Callable[[Floats32], Floats32]]
"""Fits a model on the rows given, and returns its signal of other rows."""

NEAREST = 2.0**-20
"""How near to 0 and 1 a signal may be for its logit: about 1e-6, and exact in float32."""
FOLDS = 5
_TOLERANCE = 1e-5
_COMPARED_ROWS = 2000
_MOVED_ROWS = 500
_NAME = "the calibration"


class Calibration(Protocol):
    """A monotone map of signals in [0, 1] to signals in [0, 1]."""

    def of(self, signal: NDArray[np.floating]) -> Floats64:
        """The calibrated signals (N,)."""


class Sigmoid:
    """A straight line of logits."""

    def __init__(self, slope: float, shift: float) -> None:
        self.slope, self.shift = slope, shift

    def of(self, signal: NDArray[np.floating]) -> Floats64:
        """The calibrated signals (N,)."""
        calibrated_signal: Floats64 = 1 / (1 + np.exp(-(self.slope * _logit(signal) + self.shift)))
        return calibrated_signal


class Isotonic:
    """Straight lines between knots whose ordinates never fall; level beyond the outer ones."""

    def __init__(self, x: Floats64, y: Floats64) -> None:
        # As float32, so that ONNX has the same knots; equal abscissas are one knot.
        at, first = np.unique(x.astype(np.float32), return_index=True)
        self.x, self.y = at.astype(np.float64), y[first]

    def of(self, signal: NDArray[np.floating]) -> Floats64:
        """The calibrated signals (N,)."""
        return np.interp(signal.astype(np.float64), self.x, self.y)


def fitted_map(
    kind: Literal["sigmoid", "isotonic"], signal: NDArray[np.floating], labels: Labels,
    weights: Floats64 | None = None,
) -> Calibration:  # fmt: skip
    """The map of *kind* from *signal* (N,) to the share of *labels* (N,) that are true.

    Rows count by *weights* (N,), where there are any.
    """
    if kind == "isotonic":
        regression = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        regression.fit(signal, labels, sample_weight=weights)
        return Isotonic(regression.X_thresholds_, regression.y_thresholds_)
    return _fitted_sigmoid(_logit(signal), labels, weights)


def unseen_signals(x: Floats32, labels: Labels, fit: FitSignal) -> Floats32:
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


def _fitted_sigmoid(logits: Floats64, labels: Labels, weights: Floats64 | None) -> Sigmoid:
    positives, negatives = int(labels.sum()), int((~labels).sum())
    # Platt's targets: a separable signal has no steepest slope that fits best.
    target = np.where(labels, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    regression = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
        np.tile(logits, 2)[:, None],
        np.repeat([True, False], len(labels)),
        np.concatenate([target, 1 - target]) * (1 if weights is None else np.tile(weights, 2)),
    )
    slope, shift = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    if slope >= 0:
        return Sigmoid(slope, shift)
    share = np.average(
        target, weights=weights
    )  # a signal that ranks the wrong way says no more than the base rate
    return Sigmoid(0.0, float(np.log(share / (1 - share))))


def _logit(signal: NDArray[np.floating]) -> Floats64:
    p = np.clip(signal.astype(np.float64), NEAREST, 1 - NEAREST)
    logits: Floats64 = np.log(p / (1 - p))
    return logits


def _spans(rows: int) -> Iterator[slice]:
    edges = [rows * fold // FOLDS for fold in range(FOLDS + 1)]
    return (slice(edges[fold], edges[fold + 1]) for fold in range(FOLDS))


def calibrated(content: bytes, calibration: Calibration, rows: Floats32) -> bytes:
    """The ONNX model *content* with *calibration* behind its signal; *rows* try it out.

    Raises ExportMismatch and BatchDependent.
    """
    model = onnx.load_model_from_string(content)
    for node in model.graph.node:
        node.output[:] = ["raw_signal" if name == "signal" else name for name in node.output]
    nodes, constants = _nodes(calibration)
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(value, f"calibration_{name}") for name, value in constants.items()
    )
    onnx.checker.check_model(model)
    finished: bytes = model.SerializeToString(deterministic=True)
    _check(content, finished, calibration, rows)
    return finished


def _check(before: bytes, after: bytes, calibration: Calibration, rows: Floats32) -> None:
    compared = rows[:_COMPARED_ROWS]
    raw, calibrated_signal = (
        ModelSession.of(onnx_model, "model.onnx").signal(compared) for onnx_model in (before, after)
    )
    difference = float(np.abs(calibrated_signal - calibration.of(raw)).max(initial=0))
    if difference > _TOLERANCE:
        raise ExportMismatch(_NAME, difference)
    moved = rows[:_MOVED_ROWS]
    if moving := moving_rows(ModelSession.of(after, "model.onnx").signal, moved):
        raise BatchDependent(_NAME, moving, len(moved))


def _nodes(calibration: Calibration) -> tuple[list[Any], dict[str, Any]]:
    """Nodes from `raw_signal` to `signal`, and the constants that they read."""
    if isinstance(calibration, Sigmoid):
        return _sigmoid_nodes(calibration)
    if isinstance(calibration, Isotonic):
        return _isotonic_nodes(calibration)
    raise TypeError(f"no ONNX form of {type(calibration).__name__}")


def _sigmoid_nodes(sigmoid: Sigmoid) -> tuple[list[Any], dict[str, Any]]:
    constants = {
        "low": np.array(NEAREST, np.float32),
        "high": np.array(1 - NEAREST, np.float32),
        "one": np.array(1, np.float32),
        "slope": np.array(sigmoid.slope, np.float32),
        "shift": np.array(sigmoid.shift, np.float32),
    }
    return [
        _node("Clip", ["raw_signal", "calibration_low", "calibration_high"], "inner"),
        _node("Sub", ["calibration_one", "calibration_inner"], "rest"),
        _node("Div", ["calibration_inner", "calibration_rest"], "odds"),
        _node("Log", ["calibration_odds"], "logit"),
        _node("Mul", ["calibration_logit", "calibration_slope"], "sloped"),
        _node("Add", ["calibration_sloped", "calibration_shift"], "shifted"),
        helper.make_node("Sigmoid", ["calibration_shifted"], ["signal"]),
    ], constants


def _isotonic_nodes(isotonic: Isotonic) -> tuple[list[Any], dict[str, Any]]:
    """Each row's piece of the line, found by counting the knots that its signal has passed.

    Held between the ends of its piece, so rounding cannot make the map fall.
    """
    x, y = isotonic.x.astype(np.float32), isotonic.y.astype(np.float32)
    rise = np.diff(isotonic.y) / np.maximum(np.diff(isotonic.x), np.finfo(np.float32).tiny)
    constants: dict[str, Any] = {
        "knots": x[None, :],
        "column": np.array([1], np.int64),
        "ones": np.ones((len(x), 1), np.float32),
        "from": np.concatenate([x[:1], x]),
        "rise": np.concatenate([[0], rise, [0]]).astype(np.float32),
        "low": np.concatenate([y[:1], y]),
        "high": np.concatenate([y[:1], y[1:], y[-1:]]),
    }
    pieces = [
        helper.make_node("Gather", [f"calibration_{name}", "calibration_at"],
                         [f"calibration_its_{name}"], axis=0)
        for name in ("from", "rise", "low", "high")
    ]  # fmt: skip
    return [
        _node("Unsqueeze", ["raw_signal", "calibration_column"], "wide"),
        _node("GreaterOrEqual", ["calibration_wide", "calibration_knots"], "passed"),
        helper.make_node(
            "Cast", ["calibration_passed"], ["calibration_counted"], to=TensorProto.FLOAT
        ),
        _node("MatMul", ["calibration_counted", "calibration_ones"], "count"),
        _node("Squeeze", ["calibration_count", "calibration_column"], "place"),
        helper.make_node("Cast", ["calibration_place"], ["calibration_at"], to=TensorProto.INT64),
        *pieces,
        _node("Sub", ["raw_signal", "calibration_its_from"], "beyond"),
        _node("Mul", ["calibration_beyond", "calibration_its_rise"], "risen"),
        _node("Add", ["calibration_risen", "calibration_its_low"], "line"),
        _node("Max", ["calibration_line", "calibration_its_low"], "above"),
        helper.make_node("Min", ["calibration_above", "calibration_its_high"], ["signal"]),
    ], constants


def _node(kind: str, inputs: list[str], output: str) -> Any:
    return helper.make_node(kind, inputs, [f"calibration_{output}"])
