"""A model is opened once, refused when it does not fit, and says the same in any batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.onnx.session import ModelSession, ModelSignatureError, ModelUnreadable
from models.registry.registry import (
    ModelCard,
    ModelCorrupt,
    ModelMissing,
    Registry,
    RegistryError,
    digest_of,
)
from models.training.estimators import fit, load_estimator
from models.training.export import export

Singles = NDArray[np.float32]
FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64

CARD = ModelCard(
    estimator="e", parameters={}, inputs=["a"], n_inputs=3, rows=1, data_hash="",
    created_at="", metrics={}, libraries={},
)  # fmt: skip

ESTIMATORS: dict[str, tuple[str, dict[str, Any], int]] = {
    "LogisticRegression": ("sklearn.linear_model.LogisticRegression", {"max_iter": 1000}, 5),
    "RandomForest": (
        "sklearn.ensemble.RandomForestClassifier",
        {"n_estimators": 50, "max_depth": 8},
        5,
    ),
    "MLP": (
        "sklearn.neural_network.MLPClassifier",
        {"hidden_layer_sizes": (16,), "max_iter": 15},
        5,
    ),
    "a wide MLP": (
        "sklearn.neural_network.MLPClassifier",
        {"hidden_layer_sizes": (128, 64), "max_iter": 5},
        30,
    ),
    "IsolationForest": ("sklearn.ensemble.IsolationForest", {"n_estimators": 50}, 5),
    "GradientBoosting": (
        "sklearn.ensemble.GradientBoostingClassifier",
        {"n_estimators": 30, "max_depth": 3},
        5,
    ),
    "GaussianMixture": ("sklearn.mixture.GaussianMixture", {"n_components": 4}, 5),
    "GaussianNB": ("sklearn.naive_bayes.GaussianNB", {}, 15),
    "QDA": ("sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis", {}, 5),
}
DETECTORS = {"IsolationForest", "GaussianMixture"}


def rows_of(n: int, width: int, seed: int = 0) -> Singles:
    """Rows whose columns are of very different size."""
    rng = np.random.default_rng(seed)
    size = 10.0 ** (np.arange(width) % 6 - 2)
    return (rng.normal(size=(n, width)) * size).astype(np.float32)


@cache
def exported(name: str) -> bytes:
    path, parameters, width = ESTIMATORS[name]
    x = rows_of(1500, width)
    y = (x[:, 0] / np.abs(x[:, 0]).mean() + np.sin(x[:, 1])) > 0.3
    supervised = name not in DETECTORS
    estimator = load_estimator(path, parameters, seed=1)
    return export(fit(estimator, x, y if supervised else None), x)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


def made(
    inputs: Sequence[tuple[str, int, list[int | str | None]]],
    outputs: Sequence[tuple[str, int, list[int | str | None]]],
    nodes: Sequence[Any],
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def mean_of(
    *, kind: int = FLOAT, width: int | str | None = 3, keepdims: int = 0, name: str = "signal"
) -> bytes:
    """A model whose signal is the mean of its input's columns."""
    shape: list[int | str | None] = ["n", 1] if keepdims else ["n"]
    node = helper.make_node("ReduceMean", ["x", "axes"], [name], keepdims=keepdims)
    axes = helper.make_node("Constant", [], ["axes"], value_ints=[1])
    return made([("x", kind, ["n", width])], [(name, kind, shape)], [axes, node])


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_signal_may_be_flat_or_one_column(tmp_path: Path, keepdims: int) -> None:
    session = ModelSession.open(written(tmp_path, mean_of(keepdims=keepdims)))
    assert session.n_inputs == 3
    x = np.array([[0, 0.5, 1], [1, 1, 1], [0, 0, 0]], np.float32)
    assert session.signal(x).tolist() == [0.5, 1, 0]
    assert session.signal(x[:1]).tolist() == [0.5]
    assert session.signal(x).dtype == np.float32


@pytest.mark.parametrize("keepdims", [0, 1])
def test_no_rows_have_no_signal(tmp_path: Path, keepdims: int) -> None:
    session = ModelSession.open(written(tmp_path, mean_of(keepdims=keepdims)))
    signal = session.signal(np.zeros((0, 3), np.float32))
    assert signal.shape == (0,)
    assert signal.dtype == np.float32


@pytest.mark.parametrize("shape", [(2, 2), (2, 4), (0, 4), (3,), (2, 3, 1)])
def test_rows_of_another_width_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    session = ModelSession.open(written(tmp_path, mean_of()))
    with pytest.raises(ValueError, match="the model has 3 input columns, not shape"):
        session.signal(np.zeros(shape, np.float32))


@pytest.mark.parametrize("strided", [np.asfortranarray, lambda x: np.repeat(x, 2, axis=1)[:, ::2]])
def test_rows_may_lie_in_memory_in_any_order(tmp_path: Path, strided: Any) -> None:
    session = ModelSession.open(written(tmp_path, mean_of()))
    x = rows_of(9, 3)
    assert session.signal(strided(x)).tobytes() == session.signal(x).tobytes()


def two_inputs() -> bytes:
    node = helper.make_node("Add", ["x", "y"], ["signal"])
    inputs: Any = [("x", FLOAT, ["n", 1]), ("y", FLOAT, ["n", 1])]
    return made(inputs, [("signal", FLOAT, ["n", 1])], [node])


def identity(shape: list[int | str | None]) -> bytes:
    node = helper.make_node("Identity", ["x"], ["signal"])
    return made([("x", FLOAT, shape)], [("signal", FLOAT, shape)], [node])


def integer_signal() -> bytes:
    node = helper.make_node("ArgMax", ["x"], ["signal"], axis=1, keepdims=0)
    return made([("x", FLOAT, ["n", 3])], [("signal", INT64, ["n"])], [node])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (mean_of(kind=DOUBLE), "input x tensor(double)"),
        (integer_signal(), "output signal tensor(int64)"),
        (two_inputs(), "input y tensor(float)"),
        (mean_of(name="probability"), "output probability"),
        (mean_of(width="columns"), "input x tensor(float) ['n', 'columns']"),
        (mean_of(width=None), "input x tensor(float)"),
        (identity(["n"]), "input x tensor(float) ['n']"),
        (identity(["n", 2]), "output signal tensor(float) ['n', 2]"),
    ],
    ids=[
        "double", "integer signal", "two inputs", "no signal", "a width by name", "any width",
        "flat rows", "two signals",
    ],
)  # fmt: skip
def test_another_signature_is_refused_and_shown(tmp_path: Path, content: bytes, found: str) -> None:
    with pytest.raises(ModelSignatureError, match="needs one float32 input") as caught:
        ModelSession.open(written(tmp_path, content))
    assert found in str(caught.value)
    assert str(tmp_path / "model.onnx") in str(caught.value)
    assert isinstance(caught.value, RegistryError)


@pytest.mark.parametrize("content", [b"", b"not ONNX", mean_of()[:-20]])
def test_what_is_no_model_is_unreadable(tmp_path: Path, content: bytes) -> None:
    with pytest.raises((ModelUnreadable, ModelSignatureError)) as caught:
        ModelSession.open(written(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ModelUnreadable, match="No such file"):
        ModelSession.open(tmp_path / "none.onnx")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelUnreadable):
        ModelSession.open(tmp_path)


def test_a_registered_model_is_opened_by_its_digest(tmp_path: Path) -> None:
    version = Registry(tmp_path).add("p", "risk", mean_of(), CARD)
    assert ModelSession.open(version).digest == version.digest == digest_of(mean_of())
    assert ModelSession.open(Path(version.location)).digest == version.digest


def test_a_registered_model_that_was_changed_is_not_opened(tmp_path: Path) -> None:
    version = Registry(tmp_path).add("p", "risk", mean_of(), CARD)
    Path(version.location).write_bytes(mean_of(keepdims=1))
    with pytest.raises(ModelCorrupt):
        ModelSession.open(version)


def test_a_registered_model_that_was_removed_is_missed(tmp_path: Path) -> None:
    version = Registry(tmp_path).add("p", "risk", mean_of(), CARD)
    Path(version.location).unlink()
    with pytest.raises(ModelMissing):
        ModelSession.open(version)


@pytest.mark.parametrize("kind", ["Log", "Softplus"])
def test_what_is_left_over_of_a_vector_has_the_same_bits(tmp_path: Path, kind: str) -> None:
    node = helper.make_node(kind, ["x"], ["signal"])
    content = made([("x", FLOAT, ["n", 1])], [("signal", FLOAT, ["n", 1])], [node])
    session = ModelSession.open(written(tmp_path, content))
    x = np.random.default_rng(0).uniform(0.5, 9, (1000, 1)).astype(np.float32)
    whole = session.signal(x)
    for size in range(1, 20):
        parts = [session.signal(x[at : at + size]) for at in range(0, 1000, size)]
        assert np.flatnonzero(np.concatenate(parts) != whole).tolist() == [], f"batches of {size}"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_row_has_the_same_bits_alone_and_in_any_batch(tmp_path: Path, name: str) -> None:
    session = ModelSession.open(written(tmp_path, exported(name)))
    x = rows_of(5000, ESTIMATORS[name][2], seed=2)
    whole = session.signal(x)
    assert len(np.unique(whole)) > 3, "the signals tell rows apart"
    for size in (2, 7, 64, 1000):
        parts = [session.signal(x[at : at + size]) for at in range(0, 2000, size)]
        differ = np.flatnonzero(np.concatenate(parts)[:2000] != whole[:2000])
        assert differ.tolist() == [], f"batches of {size}"
    alone = np.concatenate([session.signal(x[row : row + 1]) for row in range(500)])
    assert np.flatnonzero(alone != whole[:500]).tolist() == []


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_any_batch_size_up_to_100_gives_a_row_the_same_bits(tmp_path: Path, name: str) -> None:
    session = ModelSession.open(written(tmp_path, exported(name)))
    x = rows_of(100, ESTIMATORS[name][2], seed=3)
    whole = session.signal(x)
    wrong = [
        size for size in range(1, 101) if session.signal(x[:size]).tolist() != whole[:size].tolist()
    ]
    assert wrong == []


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_row_has_the_same_bits_wherever_it_lies_in_memory(tmp_path: Path, name: str) -> None:
    session = ModelSession.open(written(tmp_path, exported(name)))
    x = rows_of(1001, ESTIMATORS[name][2], seed=4)
    whole = session.signal(x)
    for address in (0, 4, 8, 12, 16, 36):
        for first, size in ((0, 1001), (1, 2), (3, 7), (17, 333)):
            moved = at_address(x[first : first + size], address)
            assert session.signal(moved).tobytes() == whole[first : first + size].tobytes()


def at_address(x: Singles, address: int) -> Singles:
    """A copy of *x* that begins *address* bytes after a multiple of 64."""
    memory = np.empty(x.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + address
    moved = memory[start : start + x.nbytes].view(np.float32).reshape(x.shape)
    moved[...] = x
    return moved
