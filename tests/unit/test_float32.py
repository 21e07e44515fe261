"""A number that float32 does not hold is told; no model is ever given infinity for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agents.commands.models.onnx_import import rows_in
from agents.components.extract_features import ExtractFeatures, PlainFeatures
from agents.components.running import INVALID_OUTPUT, transform
from models.component import Batch, Component, StageOutput
from models.features.aggregates import _REDUCE
from models.features.vector import FeatureVector
from models.onnx.session import ModelSession
from tests.unit.onnx_networks import network
from topics.events.float32 import LARGEST_FLOAT32, BeyondFloat32, as_float32
from topics.pipeline.fields import Feature

BEYOND = [1e39, -1e39, 1.7e308, np.nextafter(LARGEST_FLOAT32, np.inf) * 2]
AMOUNTS = FeatureVector([Feature(name="amount", of="amount"), Feature(name="other", of="other")])


def test_what_float32_holds_is_unchanged() -> None:
    values = np.array([[0.1, -LARGEST_FLOAT32], [np.nan, LARGEST_FLOAT32], [-0.0, 1e-50]])
    np.testing.assert_array_equal(as_float32(values), values.astype(np.float32))
    single = values[:1].astype(np.float32)
    assert as_float32(single) is single


@pytest.mark.parametrize("number", BEYOND)
def test_what_it_does_not_hold_is_named_by_its_column(number: float) -> None:
    values = np.array([[1.0, 2.0], [np.inf, number]])
    with pytest.raises(BeyondFloat32, match=r"other is .*e\+.*float32"):
        as_float32(values, ["amount", "other"])
    with pytest.raises(BeyondFloat32, match="column 2 is"):
        as_float32(values)


def _session() -> ModelSession:
    return ModelSession.of(network(2), "network")


@pytest.mark.parametrize("number", BEYOND)
@pytest.mark.parametrize(
    ("component", "error", "reason"),
    [
        (lambda: PlainFeatures(AMOUNTS), INVALID_OUTPUT, "output column 1 of 2 is"),
        (lambda: ExtractFeatures(AMOUNTS, _session()), "BeyondFloat32", "amount is"),
    ],
)
def test_a_feature_beyond_float32_costs_its_row_alone(
    component: Callable[[], Component], error: str, reason: str, number: float
) -> None:
    columns = {"amount": np.array([0.1, number, 0.2]), "other": np.zeros(3)}
    done = transform(component(), Batch(3, columns=columns))
    assert done.present.tolist() == [True, False, True]
    assert done.errors[1][0] == error
    assert done.errors[1][1].startswith(reason)
    assert done.output[[0, 2], 0].tolist() == [0.1, 0.2]
    assert np.isfinite(done.output).all()


class _Passed(Component):
    """What a model component does with its inputs."""

    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(np.clip(batch.matrix()[:, 0], 0, 1))


def test_an_input_beyond_float32_costs_its_row_alone() -> None:
    """As recorded stage batches of before may hold it."""
    before = StageOutput(np.array([[0.5], [1e39], [0.25]]), np.zeros(3, np.float32))
    done = transform(_Passed(), Batch(3, inputs={"before": before}))
    assert done.present.tolist() == [True, False, True]
    assert done.errors[1][0] == "BeyondFloat32"


@pytest.mark.parametrize("signal", [1e39, np.inf, np.nan, -0.1, 1.1])
def test_a_signal_beyond_float32_is_no_signal(signal: float) -> None:
    class Own(Component):
        def transform(self, batch: Batch) -> StageOutput:
            return StageOutput.of_signal(batch.columns["x"])

    done = transform(Own(), Batch(2, columns={"x": np.array([0.5, signal])}))
    assert done.present.tolist() == [True, False]
    assert done.errors[1][0] == INVALID_OUTPUT


@pytest.mark.parametrize("apply", ["sum", "mean", "std", "min", "max"])
def test_a_window_whose_numbers_overflow_says_infinity_without_a_warning(apply: str) -> None:
    """Its row is then absent; no warning, which the tests make an error, comes on stderr."""
    values = np.array([1.7e308, -1e308, 1.7e308, 1.7e308])
    made = _REDUCE[apply](values, np.zeros(4, np.int64), np.array([4]))  # type: ignore[index]
    columns = {"amount": made, "other": np.zeros(1)}
    done = transform(PlainFeatures(AMOUNTS), Batch(1, columns=columns))
    assert done.present.tolist() == [False]


def test_rows_to_try_a_model_on_are_refused_by_their_column(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("amount,other\n1,2\n3,1e39\n", encoding="utf-8")
    with pytest.raises(BeyondFloat32, match=r"other is 1e\+39"):
        rows_in(str(file), ["amount", "other"])
