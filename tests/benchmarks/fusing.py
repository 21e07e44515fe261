"""What one session for two neighbouring stages wins over one session each.

    python -m tests.benchmarks.fusing

A risk assessor (linear, or a forest of 30 trees) and a linear decision maker that reads its
signal, as two sessions and as one, as `fuse:` makes it: processor time a batch, in turns. What a
worker less on the way wins is in W1 and W3 of the benchmark.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.onnx.fuse import FusableModel, FusedSession, one_by_one
from models.onnx.session import ModelSession
from models.training.estimators import fit, load_estimator
from models.training.export import export
from models.variants.speed import speed, timed

Singles = NDArray[np.float32]
BATCHES = (4, 16, 256, 4096)
WIDTH = 15
ASSESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("sklearn.linear_model.LogisticRegression", {}),
    "forest of 30": ("sklearn.ensemble.RandomForestClassifier",
                     {"n_estimators": 30, "min_samples_leaf": 5, "max_features": 0.5}),
}  # fmt: skip


def pair(assessor: str, x: Singles, labels: NDArray[np.bool_]) -> list[FusableModel]:
    """An assessor and a decision maker behind it."""
    path, parameters = ASSESSORS[assessor]
    first = export(fit(load_estimator(path, parameters, 1), x, labels), x)
    risk = ModelSession.of(first, "first")
    signal = risk.signal(x)[:, None]
    second = export(fit(load_estimator(*ASSESSORS["linear"], 1), signal, labels), signal)
    return [
        FusableModel("risk", risk, ["x"]),
        FusableModel("decision", ModelSession.of(second, "second"), ["risk"]),
    ]


def runs(parts: Sequence[FusableModel]) -> dict[str, Callable[[Singles], Singles]]:
    """Both signals side by side, (N, 2), of two sessions and of one."""
    together = FusedSession.of(parts, {"x": WIDTH})  # which compares their bits
    return {
        "two": lambda x: np.stack([*one_by_one(parts, {"x": x}).values()], axis=1),
        "one": lambda x: np.stack([*together.signals({"x": x}).values()], axis=1),
    }


def main() -> None:
    """Print a line for each assessor and batch size."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(max(BATCHES), WIDTH)).astype(np.float32)
    labels = x[:, 0] + rng.normal(size=len(x)) > 0
    for name in ASSESSORS:
        timings = timed(runs(pair(name, x, labels)), x, BATCHES, clock=time.thread_time, seed=0)
        two, one = (speed(timings, each, "two") for each in ("two", "one"))
        print(name)
        for size in BATCHES:
            a, b = two.us_per_row[size], one.us_per_row[size]
            print(f"  {size:5} rows: {a:.3f} -> {b:.3f} µs a row, {one.ratio[size]:.2f} ×")


if __name__ == "__main__":
    main()
