"""Models in one session: the bits of each by itself, or a refusal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from models.arrays import Floats32
from models.onnx.fuse import FusableModel, FusedSession, NotFusable, one_by_one
from models.onnx.session import ModelSession
from models.training.estimators import fit, load_estimator
from models.training.export import export
from tests.unit.onnx_networks import network

WIDTHS = {"features.output": 6, "terminals.output": 3}
OUTSIDE = list(WIDTHS)
ESTIMATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("sklearn.linear_model.LogisticRegression", {}),
    "forest": ("sklearn.ensemble.RandomForestClassifier", {"n_estimators": 7, "max_depth": 4}),
    "boosting": ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 8}),
    "network": ("sklearn.neural_network.MLPClassifier",
                {"hidden_layer_sizes": [8], "tol": 0.1}),
    "novelty": ("sklearn.mixture.GaussianMixture", {"n_components": 2}),
}  # fmt: skip


def fitted(kind: str, width: int) -> ModelSession:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(400, width)).astype(np.float32)
    labels = x[:, 0] + rng.normal(size=len(x)) > 0
    path, parameters = ESTIMATORS[kind]
    return ModelSession.of(export(fit(load_estimator(path, parameters, 1), x, labels), x), kind)


def rows(n: int, seed: int = 1) -> dict[str, Floats32]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(n, width)).astype(np.float32)
            for name, width in WIDTHS.items()}  # fmt: skip


def same(one: Mapping[str, Floats32], other: Mapping[str, Floats32]) -> bool:
    return one.keys() == other.keys() and all(
        (one[name].view(np.int32) == other[name].view(np.int32)).all() for name in one
    )


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("n", [1, 3, 4, 257])
def test_a_fused_graph_gives_the_bits_of_its_models(kind: str, n: int) -> None:
    parts = [
        FusableModel("first", fitted(kind, 9), OUTSIDE),
        FusableModel("second", fitted("linear", 9), OUTSIDE),
        FusableModel("third", fitted(kind, 11), ["first", *OUTSIDE, "second"]),
    ]
    found = FusedSession.of(parts, WIDTHS).signals(rows(n))
    assert same(found, one_by_one(parts, rows(n)))
    assert [signal.shape for signal in found.values()] == [(n,)] * 3


def test_a_model_that_reads_one_signal_alone_can_be_fused() -> None:
    parts = [
        FusableModel("first", fitted("forest", 6), ["features.output"]),
        FusableModel("second", fitted("linear", 1), ["first"]),
    ]
    blocks = {"features.output": rows(5)["features.output"]}
    session = FusedSession.of(parts, {"features.output": 6})
    assert same(session.signals(blocks), one_by_one(parts, blocks))
    of_no_rows = session.signals({"features.output": np.zeros((0, 6), "f4")})
    assert [len(signal) for signal in of_no_rows.values()] == [0, 0]


def test_models_of_other_tools_are_fused_too_whatever_version_of_onnx_they_are_of() -> None:
    older = onnx.load_from_string(network(10))
    older.opset_import[0].version = 14
    parts = [
        FusableModel("first", ModelSession.of(network(9), "first"), OUTSIDE),
        FusableModel(
            "second", ModelSession.of(older.SerializeToString(), "second"), [*OUTSIDE, "first"]
        ),
    ]
    assert same(FusedSession.of(parts, WIDTHS).signals(rows(8)), one_by_one(parts, rows(8)))


def test_operators_of_others_must_be_of_one_version() -> None:
    models = [onnx.load_from_string(network(9)) for _ in range(2)]
    for version, model in enumerate(models, start=2):
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", version))
    parts = [
        FusableModel(name, ModelSession.of(model.SerializeToString(), name), OUTSIDE)
        for name, model in zip(("first", "second"), models, strict=True)
    ]
    with pytest.raises(NotFusable, match=r"they use versions 2 and 3 of ai\.onnx\.ml"):
        FusedSession.of(parts, WIDTHS)


def test_a_file_that_is_another_one_by_now_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "first.onnx"
    path.write_bytes(network(9))
    session = ModelSession.open(path)
    path.write_bytes(network(9, output="signal").replace(b"pytorch", b"pytorxh"))
    with pytest.raises(NotFusable, match="its file has changed since it was loaded"):
        FusedSession.of([FusableModel("first", session, OUTSIDE)], WIDTHS)


def test_a_graph_with_functions_is_refused() -> None:
    model = onnx.load_from_string(network(9))
    body = [helper.make_node("Neg", ["a"], ["b"])]
    model.functions.append(helper.make_function(
        "own", "minus", ["a"], ["b"], body, [helper.make_opsetid("", 18)]))  # fmt: skip
    model.opset_import.append(helper.make_opsetid("own", 1))
    session = ModelSession.of(model.SerializeToString(), "first")
    with pytest.raises(NotFusable, match="functions"):
        FusedSession.of([FusableModel("first", session, OUTSIDE)], WIDTHS)


def test_one_that_says_something_else_together_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    part = FusableModel("first", fitted("linear", 9), OUTSIDE)
    signal = ModelSession.signal
    monkeypatch.setattr(ModelSession, "signal", lambda self, x: signal(self, x) + np.float32(1e-3))
    with pytest.raises(NotFusable, match="the signal of first has other bits then"):
        FusedSession.of([part], WIDTHS)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    part = FusableModel("first", fitted("linear", 9), OUTSIDE)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(NotFusable, match=r"pip install anabranch\[fuse\]"):
        FusedSession.of([part], WIDTHS)
