"""Estimators of other libraries than scikit-learn: what is asked of them, and their ONNX form.

LightGBM and XGBoost are converted by onnxmltools, as steps of skl2onnx; CatBoost by its own
exporter, whose nodes become such a step. Their trees split on inputs as they are, so nothing is
scaled before them. Each fit computes with one thread, writes no files, and so has the same bits on
every engine.

LightGBM compares in float64, ONNX in float32: of a threshold between two float32 numbers, the
lower one decides every float32 input as the threshold itself does; the nearest may be the upper.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skl2onnx import update_registered_converter
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common.data_types import Int64TensorType, guess_tensor_type
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from sklearn.pipeline import Pipeline

from models.errors import EstimatorNotFound, LibraryMissing
from topics.pipeline import Scalar

Converter = Callable[[Any, Any, Any], None]
Labels = NDArray[np.bool_] | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class EstimatorLibrary:
    """A library whose classifiers are fitted as scikit-learn's are."""

    module: str
    extra: str
    """Of Anabranch's package: what installs it, and what exports it."""
    needs: tuple[str, ...]
    """The modules that fitting and exporting imports."""
    classifiers: tuple[str, ...]
    """Those that have an ONNX form here."""
    settings: Mapping[str, Scalar]
    """Parameters that the pipeline file may change."""
    seed: str
    """What its seed is called."""


LIBRARIES = {
    library.module: library
    for library in (
        EstimatorLibrary(
            "lightgbm", "lightgbm", ("lightgbm", "onnxmltools"), ("LGBMClassifier",),
            {"n_jobs": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1},
            "random_state",
        ),
        EstimatorLibrary(
            "xgboost", "xgboost", ("xgboost", "onnxmltools"),
            ("XGBClassifier", "XGBRFClassifier"), {"n_jobs": 1, "verbosity": 0}, "random_state",
        ),
        EstimatorLibrary(
            "catboost", "catboost", ("catboost",), ("CatBoostClassifier",),
            {"thread_count": 1, "allow_writing_files": False, "verbose": False}, "random_seed",
        ),
    )
}  # fmt: skip


def library_of(path: str) -> EstimatorLibrary | None:
    """The library that an import path, or a module's name, begins with; None for others."""
    return LIBRARIES.get(path.replace(":", ".").partition(".")[0])


def library_of_estimator(estimator: Any) -> EstimatorLibrary | None:
    """The library that an estimator, or the last step of a Pipeline, is of; None for others."""
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    kinds = (library_of(kind.__module__) for kind in type(last).__mro__)
    return next((library for library in kinds if library is not None), None)


def check_installed(path: str) -> None:
    """Raise LibraryMissing where what *path* names cannot be fitted and exported here."""
    library = library_of(path)
    if library is None:
        return
    if missing := [module for module in library.needs if find_spec(module) is None]:
        raise LibraryMissing(path, missing, library.extra)


def known_parameters(kind: Any, library: EstimatorLibrary, path: str) -> Collection[str]:
    """The parameters of a class that takes any keyword, and would pass over a wrong one."""
    try:
        known = set(kind().get_params())
    except (TypeError, ValueError) as exc:
        raise EstimatorNotFound(path, str(exc)) from exc
    if library.module == "lightgbm":
        basic = import_module("lightgbm.basic")
        known |= set(basic._ConfigAliases._get_all_param_aliases())  # noqa: SLF001  # public in C
        known |= {
            alias
            for aliases in basic._ConfigAliases._get_all_param_aliases().values()  # noqa: SLF001
            for alias in aliases
        }
    return known


def plain_labels(estimator: Any, y: Labels) -> Labels:
    """The labels as *estimator* reads them: 0 and 1 where a library takes booleans for texts."""
    return y if library_of_estimator(estimator) is None else y.astype(np.int64)


def versions_of(estimator: str) -> dict[str, str]:
    """The version of the library, and of its converter, that a model by *estimator* depends on."""
    library, versions = library_of(estimator), {}
    for module in () if library is None else library.needs:
        try:
            versions[module] = version(module)
        except PackageNotFoundError:  # as with xgboost-cpu, which has the module of another name
            continue
    return versions


def register_converter(estimator: Any) -> None:
    """Have skl2onnx know *estimator*, or the last step of a Pipeline, if it is of a library here.

    Raises ImportError without its converter.
    """
    library = library_of_estimator(estimator)
    if library is None:
        return
    kind = type(estimator[-1] if isinstance(estimator, Pipeline) else estimator)
    update_registered_converter(
        kind, f"{library.module}{kind.__name__}", calculate_linear_classifier_output_shapes,
        _CONVERTERS[library.module], overwrite=True, parser=_two_outputs,
        options={"zipmap": [False], "nocl": [False, True], "raw_scores": [False, True]},
    )  # fmt: skip


def _two_outputs(
    scope: Any,
    estimator: Any,
    inputs: list[Any],
    custom_parsers: Any = None,  # noqa: ARG001  # its name is that of skl2onnx
) -> list[Any]:
    """The operator's outputs, label and probabilities; CatBoost's class is no ClassifierMixin."""
    operator = scope.declare_local_operator(sklearn_operator_name_map[type(estimator)], estimator)
    operator.inputs = inputs
    label = scope.declare_local_variable("label", Int64TensorType())
    probabilities = scope.declare_local_variable("probabilities", guess_tensor_type(inputs[0].type))
    operator.outputs.append(label)
    operator.outputs.append(probabilities)
    return [label, probabilities]


class _LowerThresholds:
    """A container whose tree nodes compare with the float32 number at or below each threshold."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *arguments: Any, **attributes: Any) -> Any:
        """Add a node."""
        if "nodes_values" in attributes:
            attributes["nodes_values"] = lower_float32(attributes["nodes_values"]).tolist()
        return self._container.add_node(*arguments, **attributes)


def lower_float32(values: Any) -> NDArray[np.float32]:
    """The largest float32 numbers that are at most *values* (N,).

    >>> float(lower_float32([0.1])[0]) <= 0.1 < float(np.float32(0.1))
    True
    """
    exact = np.asarray(values, np.float64)
    nearest = exact.astype(np.float32)
    lower = np.where(nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest)
    return lower.astype(np.float32)


def _lightgbm(scope: Any, operator: Any, container: Any) -> None:
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

    convert_lightgbm(scope, operator, _LowerThresholds(container))


def _xgboost(scope: Any, operator: Any, container: Any) -> None:
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

    convert_xgboost(scope, operator, container)


def _catboost(scope: Any, operator: Any, container: Any) -> None:
    """The nodes of CatBoost's own graph, but for the map of probabilities at its end."""
    from catboost.utils import convert_to_onnx_object

    graph = convert_to_onnx_object(operator.raw_operator).graph
    (trees,) = (node for node in graph.node if node.op_type == "TreeEnsembleClassifier")
    attributes = {each.name: _value(each) for each in trees.attribute}
    container.add_node(
        "TreeEnsembleClassifier", operator.inputs[0].full_name,
        [output.full_name for output in operator.outputs],
        op_domain="ai.onnx.ml", name=scope.get_unique_operator_name("CatBoost"), **attributes,
    )  # fmt: skip


def _value(attribute: Any) -> Any:
    from onnx import helper

    return helper.get_attribute_value(attribute)


_CONVERTERS: Mapping[str, Converter] = {
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "catboost": _catboost,
}
