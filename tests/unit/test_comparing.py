"""What differs between two versions, and how far apart their signals are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from models.onnx.probing import probe_of
from models.onnx.session import ModelSession
from models.onnx.version_diff import Change, compare
from models.registry.registry import ModelCorrupt, Registry
from tests.unit.registry_cards import CARD
from tests.unit.test_session import made, mean_of, rows_of

THREE = CARD.model_copy(update={"inputs": ["a", "b", "c"], "n_inputs": 3})


def first_of() -> bytes:
    """A model whose signal is the first of three columns."""
    nodes = [
        helper.make_node("Constant", [], ["first"], value_int=0),
        helper.make_node("Gather", ["x", "first"], ["signal"], axis=1),
    ]
    return made([("x", TensorProto.FLOAT, ["n", 3])], [("signal", TensorProto.FLOAT, ["n"])], nodes)


def test_cards_that_differ_are_compared_fact_by_fact(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    other = THREE.model_copy(
        update={"metrics": {"roc_auc": 0.95}, "parameters": {**CARD.parameters, "C": 2.0}}
    )
    one = registry.add("p", "risk", mean_of(), THREE)
    two = registry.add("p", "risk", mean_of(), other)
    comparison = compare(one, two)
    assert comparison.facts == {
        "metrics.roc_auc": Change(0.9, 0.95),
        "parameters.C": Change(0.5, 2.0),
    }
    assert comparison.bytes == Change(len(mean_of()), len(mean_of()))
    assert comparison.signals is None
    assert comparison.why_no_signals == "neither has probe rows"


def test_signals_are_compared_on_the_probe_rows_of_both(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    one, other = rows_of(10, 3, seed=1), rows_of(20, 3, seed=2)
    first, mean = ModelSession.of(first_of(), "f"), ModelSession.of(mean_of(), "m")
    a = registry.add("p", "risk", first_of(), THREE, probe_of(first, one))
    b = registry.add("p", "risk", mean_of(), THREE, probe_of(mean, other))
    comparison = compare(a, b).signals
    assert comparison is not None
    rows = np.concatenate([one, other]).astype(np.float64)
    distance = np.abs(rows[:, 0] - rows.mean(axis=1))
    assert (comparison.rows, comparison.same_bits) == (30, 0)
    assert comparison.most == pytest.approx(distance.max(), rel=1e-5)
    assert comparison.mean == pytest.approx(distance.mean(), rel=1e-5)


def test_a_model_and_itself_have_the_same_bits(tmp_path: Path) -> None:
    probe = probe_of(ModelSession.of(mean_of(), "m"), rows_of(10, 3))
    version = Registry(tmp_path).add("p", "risk", mean_of(), THREE, probe)
    comparison = compare(version, version)
    assert comparison.facts == {}
    assert comparison.signals is not None
    assert (comparison.signals.same_bits, comparison.signals.most) == (10, 0.0)


def test_models_of_other_columns_are_not_run(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    one = registry.add("p", "risk", mean_of(), THREE)
    two = registry.add("p", "risk", mean_of(), THREE.model_copy(update={"inputs": list("abd")}))
    comparison = compare(one, two)
    assert comparison.facts == {"inputs": Change(list("abc"), list("abd"))}
    assert comparison.why_no_signals == "they read other columns"


def test_a_model_that_was_changed_is_not_compared(tmp_path: Path) -> None:
    version = Registry(tmp_path).add("p", "risk", mean_of(), THREE)
    Path(version.location).write_bytes(b"other")
    with pytest.raises(ModelCorrupt):
        compare(version, version)
