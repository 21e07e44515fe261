"""A calibration behind the `signal` of an ONNX model: one model again, with one output."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.onnx.bit_stability import moving_rows
from models.onnx.session import ModelSession
from models.training.calibration import NEAREST, Calibration, Isotonic, Sigmoid
from models.training.export import BatchDependent, ExportMismatch

Singles = NDArray[np.float32]
_TOLERANCE = 1e-5
_COMPARED_ROWS = 2000
_MOVED_ROWS = 500
_NAME = "the calibration"


def calibrated(content: bytes, calibration: Calibration, rows: Singles) -> bytes:
    """The ONNX model *content* with *calibration* behind its signal; *rows* try it out.

    Raises ExportMismatch and BatchDependent.
    """
    model = onnx.load_model_from_string(content)
    for node in model.graph.node:
        node.output[:] = ["raw_signal" if name == "signal" else name for name in node.output]
    nodes, constants = _parts(calibration)
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(value, f"calibration_{name}") for name, value in constants.items()
    )
    onnx.checker.check_model(model)
    finished: bytes = model.SerializeToString(deterministic=True)
    _check(content, finished, calibration, rows)
    return finished


def _check(before: bytes, after: bytes, calibration: Calibration, rows: Singles) -> None:
    compared = rows[:_COMPARED_ROWS]
    raw, made = (ModelSession.of(it, "model.onnx").signal(compared) for it in (before, after))
    difference = float(np.abs(made - calibration.of(raw)).max(initial=0))
    if difference > _TOLERANCE:
        raise ExportMismatch(_NAME, difference)
    moved = rows[:_MOVED_ROWS]
    if moving := moving_rows(ModelSession.of(after, "model.onnx").signal, moved):
        raise BatchDependent(_NAME, moving, len(moved))


def _parts(calibration: Calibration) -> tuple[list[Any], dict[str, Any]]:
    """Nodes from `raw_signal` to `signal`, and the constants that they read."""
    if isinstance(calibration, Sigmoid):
        return _sigmoid(calibration)
    if isinstance(calibration, Isotonic):
        return _isotonic(calibration)
    raise TypeError(f"no ONNX form of {type(calibration).__name__}")


def _sigmoid(it: Sigmoid) -> tuple[list[Any], dict[str, Any]]:
    constants = {
        "low": np.array(NEAREST, np.float32),
        "high": np.array(1 - NEAREST, np.float32),
        "one": np.array(1, np.float32),
        "slope": np.array(it.slope, np.float32),
        "shift": np.array(it.shift, np.float32),
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


def _isotonic(it: Isotonic) -> tuple[list[Any], dict[str, Any]]:
    """Each row's piece of the line, found by counting the knots that its signal has passed.

    Held between the ends of its piece, so rounding cannot make the map fall.
    """
    x, y = it.x.astype(np.float32), it.y.astype(np.float32)
    rise = np.diff(it.y) / np.maximum(np.diff(it.x), np.finfo(np.float32).tiny)
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
