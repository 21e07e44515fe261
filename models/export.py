"""scikit-learn to ONNX: one float32 input (N, F), one output `signal` (N,) in [0, 1].

AnabranchError
├── NotExportable    the estimator has no ONNX form here
├── ExportMismatch   the ONNX model does not say what scikit-learn says
└── BatchDependent   what it says of a row depends on the batch around it
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.pipeline import Pipeline

from models.bit_stability import moving_rows, with_stable_sums
from models.estimators import is_supervised
from models.session import ModelSession
from topics.errors import AnabranchError

_OPSET = {"": 18, "ai.onnx.ml": 3}
_TOLERANCE = 1e-5
_COMPARED_ROWS = 2000
_MOVED_ROWS = 500
_EXTREME = 0.001
"""Share of the training rows that is as novel as novelty gets."""

Singles = NDArray[np.float32]


class NotExportable(AnabranchError):
    """The estimator has no ONNX form here."""

    def __init__(self, estimator: str, cause: str) -> None:
        super().__init__(f"{estimator} cannot be exported to ONNX: {cause}")


class ExportMismatch(AnabranchError):
    """The ONNX model does not say what scikit-learn says."""

    def __init__(self, estimator: str, difference: float) -> None:
        super().__init__(
            f"the ONNX form of {estimator} differs by {difference:.2g} from scikit-learn on its "
            f"own training rows, more than {_TOLERANCE:g}; choose another estimator"
        )


class BatchDependent(AnabranchError):
    """What the ONNX model says of a row depends on the batch around it."""

    def __init__(self, estimator: str, moving: int, rows: int) -> None:
        super().__init__(
            f"the ONNX form of {estimator} gives {moving} of {rows} rows other bits in a smaller "
            "batch, so its decisions could not be replayed; choose another estimator"
        )


def export(fitted: Pipeline, rows: Singles) -> bytes:
    """The ONNX form of a fitted Pipeline(scaler, estimator); *rows* are its training rows.

    A classifier's signal is the probability of class 1. An outlier detector's is a novelty:
    clip((m - s) / (m - e), 0, 1), with s = score_samples, m its median and e its 0.1 %
    quantile over *rows*: 0 is as ordinary as half of the data, 1 as odd as its oddest.
    Raises NotExportable, ExportMismatch and BatchDependent.
    """
    estimator = fitted.steps[-1][1]
    name = type(estimator).__name__
    if is_supervised(estimator):
        model = _converted(fitted, rows.shape[1], {id(estimator): {"zipmap": False}}, name)
        nodes, constants = _class_one(model.graph.output[1].name)
        expected = fitted.predict_proba(rows[:_COMPARED_ROWS])[:, 1]
    else:
        model = _converted(fitted, rows.shape[1], {id(estimator): {"score_samples": True}}, name)
        scores = fitted.score_samples(rows)
        middle, extreme = np.quantile(scores, [0.5, _EXTREME])
        spread = max(float(middle - extreme), float(np.finfo(np.float32).eps))
        nodes, constants = _novelty(model.graph.output[2].name, float(middle), spread)
        expected = np.clip((middle - scores[:_COMPARED_ROWS]) / spread, 0, 1)
    finished = _with_signal(model, nodes, constants, rows.shape[1])
    _check(finished, name, rows[:_COMPARED_ROWS], expected)
    return finished


def _check(content: bytes, name: str, rows: Singles, expected: NDArray[np.floating]) -> None:
    run = _runner(content)
    difference = float(np.abs(run(rows) - expected).max(initial=0))
    if difference > _TOLERANCE:
        raise ExportMismatch(name, difference)
    moved = rows[:_MOVED_ROWS]
    if moving := moving_rows(run, moved):
        raise BatchDependent(name, moving, len(moved))


def _converted(fitted: Pipeline, width: int, options: dict[int, Any], name: str) -> Any:
    try:
        return convert_sklearn(
            fitted, name="model", initial_types=[("input", FloatTensorType([None, width]))],
            target_opset=_OPSET, options=options,
        )  # fmt: skip
    except Exception as exc:  # skl2onnx raises whatever its converters raise
        raise NotExportable(name, str(exc).splitlines()[0]) from exc


def _class_one(probabilities: str) -> tuple[list[Any], list[Any]]:
    constants = [
        numpy_helper.from_array(np.array(1, np.int64), "class_one"),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
    ]
    return [
        helper.make_node("Gather", [probabilities, "class_one"], ["p_one"], axis=1),
        helper.make_node("Clip", ["p_one", "zero", "one"], ["signal"]),
    ], constants


def _novelty(scores: str, middle: float, spread: float) -> tuple[list[Any], list[Any]]:
    constants = [
        numpy_helper.from_array(np.array([-1], np.int64), "flat"),
        numpy_helper.from_array(np.array(middle, np.float32), "middle"),
        numpy_helper.from_array(np.array(spread, np.float32), "spread"),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
    ]
    return [
        helper.make_node("Reshape", [scores, "flat"], ["s"]),
        helper.make_node("Sub", ["middle", "s"], ["below"]),
        helper.make_node("Div", ["below", "spread"], ["share"]),
        helper.make_node("Clip", ["share", "zero", "one"], ["signal"]),
    ], constants


def _with_signal(model: Any, nodes: list[Any], constants: list[Any], width: int) -> bytes:
    """The model with *nodes* behind it, and their result `signal` as the only output."""
    del model.graph.output[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    model.graph.output.append(helper.make_tensor_value_info("signal", TensorProto.FLOAT, ["rows"]))
    # skl2onnx writes the default domain twice, which other tools refuse, and in the order of a
    # set, which differs between processes: equal models would have different digests.
    versions = {opset.domain: opset.version for opset in model.opset_import}
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(d, v) for d, v in sorted(versions.items()))
    model = with_stable_sums(model, width)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _runner(content: bytes) -> Callable[[Singles], Singles]:
    return ModelSession.of(content, Path("model.onnx")).signal  # as in service
