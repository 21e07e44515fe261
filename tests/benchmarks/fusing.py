"""What one session for two neighbouring stages would win over one session each.

    python -m tests.benchmarks.fusing

A risk assessor (linear, or a forest of 30 trees) and a linear decision maker that reads its
signal, as two sessions and as one whose graph is both (`onnx.compose`): processor time a batch,
in turns, and whether both outputs are the same to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from models.estimators import fit, load_estimator
from models.export import export
from models.session import ModelSession
from models.variants.speed import speed, timed

Singles = NDArray[np.float32]
Run = Callable[[Singles], Singles]
BATCHES = (4, 16, 256, 4096)
ASSESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("sklearn.linear_model.LogisticRegression", {}),
    "forest of 30": ("sklearn.ensemble.RandomForestClassifier",
                     {"n_estimators": 30, "min_samples_leaf": 5, "max_features": 0.5}),
}  # fmt: skip


def fused(first: bytes, second: bytes) -> bytes:
    """One graph with the outputs `first_signal` and `second_signal`; second reads first's."""
    before, behind = (onnx.load_from_string(it) for it in (first, second))
    column = numpy_helper.from_array(np.array([-1, 1], np.int64), "as_column")
    before.graph.initializer.append(column)
    before.graph.node.append(helper.make_node("Reshape", ["signal", "as_column"], ["column"]))
    before.graph.output.append(
        helper.make_tensor_value_info("column", TensorProto.FLOAT, [None, 1])
    )
    joint = ("first_column", f"second_{behind.graph.input[0].name}")
    both: bytes = compose.merge_models(
        compose.add_prefix(before, "first_"), compose.add_prefix(behind, "second_"), [joint],
        outputs=["first_signal", "second_signal"],
    ).SerializeToString()  # fmt: skip
    return both


def both_in_one(content: bytes) -> Run:
    """Both signals side by side, (N, 2), of one session."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x: Singles) -> Singles:
        made = session.run(["first_signal", "second_signal"], {name: x})
        return np.stack([signal.reshape(-1) for signal in made], axis=1)

    return run


def one_after_the_other(first: ModelSession, second: ModelSession) -> Run:
    """Both signals side by side, (N, 2), of two sessions."""

    def run(x: Singles) -> Singles:
        signal = first.signal(x)
        return np.stack([signal, second.signal(signal[:, None])], axis=1)

    return run


def main() -> None:
    """Print a line for each assessor and batch size."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(max(BATCHES), 15)).astype(np.float32)
    labels = x[:, 0] + rng.normal(size=len(x)) > 0
    for name, (path, parameters) in ASSESSORS.items():
        first = export(fit(load_estimator(path, parameters, 1), x, labels), x)
        risk = ModelSession.of(first, Path("first.onnx"))
        signal = risk.signal(x)[:, None]
        second = export(fit(load_estimator(*ASSESSORS["linear"], 1), signal, labels), signal)
        runs = {
            "two": one_after_the_other(risk, ModelSession.of(second, Path("second.onnx"))),
            "one": both_in_one(fused(first, second)),
        }
        same = (runs["one"](x).view(np.int32) == runs["two"](x).view(np.int32)).all()
        timings = timed(runs, x, BATCHES, clock=time.thread_time, seed=0)
        two, one = (speed(timings, it, "two") for it in ("two", "one"))
        print(f"{name}: {'the same bits' if same else 'OTHER BITS'}")
        for size in BATCHES:
            a, b = two.us_per_row[size], one.us_per_row[size]
            print(f"  {size:5} rows: {a:.3f} -> {b:.3f} µs a row, {one.ratio[size]:.2f} ×")


if __name__ == "__main__":
    main()
