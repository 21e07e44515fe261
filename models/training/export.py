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
from sklearn.linear_model import SGDOneClassSVM
from sklearn.pipeline import Pipeline
from sklearn.svm import OneClassSVM

from models.arrays import Floats32
from models.onnx.bit_stability import moving_rows, with_stable_sums
from models.onnx.session import ModelSession
from models.training.estimator_libraries import register_converter
from models.training.estimators import is_supervised
from models.training.skl2onnx_fixes import CONVERTERS, SHAPES, convertible
from topics.errors import AnabranchError

_OPSET = {"": 18, "ai.onnx.ml": 3}
_TOLERANCE = 1e-5
_COMPARED_ROWS = 2000
_MOVED_ROWS = 500
_CLIP_READS_LIMITS = 11
"""The opset from which on the limits of Clip are inputs."""
_LONGEST_CAUSE = 200
BY_DECISION = (OneClassSVM, SGDOneClassSVM)
"""Detectors whose converters give decision_function alone."""
_EXTREME = 0.001
"""Share of the training rows that is as novel as novelty gets."""


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


def export(fitted: Pipeline, rows: Floats32) -> bytes:
    """The ONNX form of a fitted Pipeline; *rows* are its training rows.

    A classifier's signal is the probability of class 1. An outlier detector's is a novelty:
    clip((m - s) / (m - e), 0, 1), with s = score_samples, m its median and e its 0.1 %
    quantile over *rows*: 0 is as ordinary as half of the data, 1 as odd as its oddest.
    Raises NotExportable, ExportMismatch and BatchDependent.
    """
    estimator, width, some = fitted[-1], rows.shape[1], rows[:_COMPARED_ROWS]
    name = type(estimator).__name__
    if is_supervised(estimator):
        equal = convertible(estimator)
        shown = Pipeline([*fitted.steps[:-1], (fitted.steps[-1][0], equal)])
        model = _converted(shown, width, {id(equal): {"zipmap": False}}, name)
        nodes, constants = _class_one(model)
        expected = fitted.predict_proba(some)[:, 1]
    else:
        model, scores = _detector(fitted, rows, name)
        middle, extreme = np.quantile(scores, [0.5, _EXTREME])
        spread = max(float(middle - extreme), float(np.finfo(np.float32).eps))
        nodes, constants = _novelty(model, float(middle), spread)
        expected = np.clip((middle - scores[: len(some)]) / spread, 0, 1)
    try:
        finished = _with_signal(model, nodes, constants, width)
        _check(finished, name, some, expected)
    except (ExportMismatch, BatchDependent):
        raise
    except Exception as exc:  # what onnx and onnxruntime raise of a model that is none
        raise NotExportable(name, f"its ONNX form does not run: {_first_line(exc)}") from exc
    return finished


def _detector(fitted: Pipeline, rows: Floats32, name: str) -> tuple[Any, NDArray[np.floating]]:
    """A model whose last output ranks rows as `score_samples` does; what it says of *rows*.

    Scores that differ by a constant, as `decision_function` does, give the same novelty.
    """
    estimator = fitted[-1]
    if isinstance(estimator, BY_DECISION):
        return _converted(fitted, rows.shape[1], {}, name), fitted.decision_function(rows)
    options = {id(estimator): {"score_samples": True}}
    return _converted(fitted, rows.shape[1], options, name), fitted.score_samples(rows)


def _check(content: bytes, name: str, rows: Floats32, expected: NDArray[np.floating]) -> None:
    run = _runner(content)
    difference = float(np.abs(run(rows) - expected).max(initial=0))
    if difference > _TOLERANCE:
        raise ExportMismatch(name, difference)
    moved = rows[:_MOVED_ROWS]
    if moving := moving_rows(run, moved):
        raise BatchDependent(name, moving, len(moved))


def _converted(fitted: Pipeline, width: int, options: dict[int, Any], name: str) -> Any:
    try:
        register_converter(fitted)
        return convert_sklearn(
            fitted, name="model", initial_types=[("input", FloatTensorType([None, width]))],
            target_opset=_OPSET, options=options,
            custom_conversion_functions=CONVERTERS, custom_shape_calculators=SHAPES,
        )  # fmt: skip
    except Exception as exc:  # skl2onnx raises whatever its converters raise
        raise NotExportable(
            name, f"skl2onnx has no converter that fits: {_first_line(exc)}"
        ) from exc


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0][:_LONGEST_CAUSE]


def _class_one(model: Any) -> tuple[list[Any], list[Any]]:
    name = _namer(model)
    probabilities = model.graph.output[1].name
    constants = [numpy_helper.from_array(np.array(1, np.int64), name("class_one"))]
    limits, clip = _clipped(model, "p_one")
    gather = helper.make_node("Gather", [probabilities, name("class_one")], [name("p_one")], axis=1)
    return [gather, clip], [*constants, *limits]


def _novelty(model: Any, middle: float, spread: float) -> tuple[list[Any], list[Any]]:
    name = _namer(model)
    scores = model.graph.output[-1].name
    constants = [
        numpy_helper.from_array(np.array([-1], np.int64), name("flat")),
        numpy_helper.from_array(np.array(middle, np.float32), name("middle")),
        numpy_helper.from_array(np.array(spread, np.float32), name("spread")),
    ]
    limits, clip = _clipped(model, "share")
    return [
        helper.make_node("Reshape", [scores, name("flat")], [name("s")]),
        helper.make_node("Sub", [name("middle"), name("s")], [name("below")]),
        helper.make_node("Div", [name("below"), name("spread")], [name("share")]),
        clip,
    ], [*constants, *limits]


def _clipped(model: Any, value: str) -> tuple[list[Any], Any]:
    """The node that clips *value* to [0, 1], and the constants that it reads."""
    name = _namer(model)
    if _opset(model) < _CLIP_READS_LIMITS:  # what the converters of SVMs are content with
        return [], helper.make_node("Clip", [name(value)], ["signal"], min=0.0, max=1.0)
    zero, one = name("zero"), name("one")
    constants = [
        numpy_helper.from_array(np.array(limit, np.float32), at)
        for limit, at in ((0, zero), (1, one))
    ]
    return constants, helper.make_node("Clip", [name(value), zero, one], ["signal"])


def _namer(model: Any) -> Callable[[str], str]:
    """Names of our own for a model that may have taken them."""
    taken = {each.name for each in model.graph.initializer}
    taken |= {name for node in model.graph.node for name in (*node.input, *node.output)}
    return lambda name: f"signal_{name}" if name in taken else name


def _opset(model: Any) -> int:
    return max(int(opset.version) for opset in model.opset_import if opset.domain == "")


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


def _runner(content: bytes) -> Callable[[Floats32], Floats32]:
    return ModelSession.of(content, Path("model.onnx")).signal  # as in service
