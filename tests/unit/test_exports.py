"""Files as other tools export them become models that score as their makers do."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models.imports.adaptation import ImportChoices
from models.imports.errors import ImportRefused
from models.imports.import_model import import_model
from models.imports.signal_output import OutputChoice
from models.onnx.session import ModelSession
from models.registry.registry import ModelVersion, Registry
from tests.exports.makers import CHANNELS, FILES, NAMES
from topics.pipeline.schema import Pipeline

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
HALF = 2e-3
"""How far a model of halves may be from the same one of floats."""


def pipeline(*more: Mapping[str, Any]) -> Pipeline:
    """Three columns of numbers, and what is given."""
    numbers = [{"name": name, "of": "amount"} for name in NAMES]
    return Pipeline.model_validate(
        {
            "pipeline": "p",
            "event": {
                "id": "id", "key": "id", "time": "at",
                "fields": {
                    "id": {"type": "string"}, "at": {"type": "timestamp"},
                    "amount": {"type": "number"}, "channel": {"type": "string"},
                },
            },
            "components": [
                {"name": "features", "kind": "extract_features", "from": ["events"],
                 "features": [*numbers, *more]},
                {"name": "risk", "kind": "assess_risk", "from": ["features"],
                 "model": {"estimator": "sklearn.linear_model.LogisticRegression"}},
            ],
            "weighting": {"from": ["risk"]},
            "policy": {"thresholds": {"decline": 0.5}},
        }
    )  # fmt: skip


NUMBERS = pipeline()
ORDINAL = pipeline({"name": "channel", "of": "channel", "apply": "ordinal",
                    "choices": [*CHANNELS]})  # fmt: skip
ONE_HOT = pipeline({"name": "via", "of": "channel", "apply": "one_hot", "choices": [*CHANNELS]})


def imported(
    home: Path, name: str, *, of: Pipeline = NUMBERS, rows: Any = None, **choices: Any
) -> ModelVersion:
    path = FILES / f"{name}.onnx"
    return import_model(
        of, "risk", path.read_bytes(), Registry(home), source=path.name, folder=FILES,
        rows=None if rows is None else lambda _: rows, choices=ImportChoices(**choices),
        clock=lambda: NOON,
    )  # fmt: skip


def kept(name: str) -> tuple[Any, Any]:
    """The rows of a file, and what its maker said of them."""
    with np.load(FILES / f"{name}.npz") as arrays:
        return arrays["rows"], arrays["probabilities"]


def of_maker(version: ModelVersion, rows: Any) -> Any:
    return ModelSession.of(version.read(), version.name).signal(rows)


def chosen(**choice: Any) -> dict[str, OutputChoice]:
    return {"output": OutputChoice(**choice)}


@pytest.mark.parametrize(
    ("name", "choices", "said"),
    [
        ("lightgbm", {}, ["its map probabilities (ZipMap) is an array now",
                          "the signal is class 1 of the 2 of its output probabilities"]),
        ("lightgbm-no-zipmap", {}, ["the signal is class 1 of the 2 of its output probabilities"]),
        ("xgboost", {}, ["the signal is class 1 of the 2 of its output probabilities"]),
        ("catboost", {}, ["its map probabilities (ZipMap) is an array now",
                          "the signal is class 1 of the 2 of its output probabilities"]),
        ("sklearn-double", {}, ["reads its input X (double) from float32 columns",
                                "the signal is class 1 of the 2 of its output probabilities"]),
        ("sklearn-three-classes", chosen(label="high"),
         ["its map output_probability (ZipMap) is an array now",
          "the signal is class high of the 3 of its output output_probability"]),
        ("sklearn-integers", {},
         ["reads its 2 inputs from the columns: hour from hour, amount from amount",
          "its map output_probability (ZipMap) is an array now",
          "the signal is class 1 of the 2 of its output output_probability"]),
        ("pytorch", {}, None),
        ("pytorch-fixed", {}, [None, "takes any number of rows: it was exported for 5"]),
        ("pytorch-logit", {}, ["the signal is its output logits through a sigmoid"]),
        ("pytorch-two-logits", chosen(link="softmax"), None),
        ("pytorch-transformer", {}, None),
        ("pytorch-transformer-fixed", {},
         [None, "runs row by row, which is slower: made for 5 rows"]),
        ("keras-two-inputs", {}, None),
    ],
)  # fmt: skip
def test_an_export_scores_as_its_maker_does(
    tmp_path: Path, name: str, choices: dict[str, Any], said: list[str | None] | None
) -> None:
    rows, probabilities = kept(name)
    version = imported(tmp_path, name, **choices)
    assert np.abs(of_maker(version, rows) - probabilities).max() < 1e-5
    if said is not None:
        assert len(version.card.changes) == len(said)
        for found, wanted in zip(version.card.changes, said, strict=True):
            assert wanted in (None, found)


def test_a_model_of_halves_scores_as_one_of_floats_but_for_rounding(tmp_path: Path) -> None:
    rows, probabilities = kept("pytorch-half")
    version = imported(tmp_path, "pytorch-half", rows=rows)
    assert np.abs(of_maker(version, rows) - probabilities).max() < HALF


def test_a_constant_that_the_exporter_left_out_is_asked_for_and_given(tmp_path: Path) -> None:
    rows, probabilities = kept("keras")
    left_out = "functional_1/normalization_1/Sub/y:0"
    with pytest.raises(ImportRefused, match=f"give its 3 values: --constant '{left_out}=V1,…,V3'"):
        imported(tmp_path, "keras")
    with np.load(FILES / "keras.npz") as arrays:
        means = arrays["means"].astype(np.float64)
    version = imported(tmp_path, "keras", constants={left_out: means})
    assert np.abs(of_maker(version, rows) - probabilities).max() < 1e-5


@pytest.mark.parametrize("of", [ORDINAL, ONE_HOT], ids=["ordinal", "one_hot"])
def test_texts_are_read_from_the_categories_of_the_pipeline_file(
    tmp_path: Path, of: Pipeline
) -> None:
    rows, probabilities = kept("sklearn-columns-and-texts")
    if of is ONE_HOT:
        rows = np.hstack([rows[:, :3], rows[:, 3:] == np.arange(len(CHANNELS))]).astype(np.float32)
    version = imported(tmp_path, "sklearn-columns-and-texts", of=of)
    assert np.abs(of_maker(version, rows) - probabilities).max() < 1e-5
    assert "channel from " in version.card.changes[0]
    # A text that training has not seen is no category, and not a failure.
    rows[:, 3:] = -1 if of is ORDINAL else 0
    assert np.isfinite(of_maker(version, rows)).all()


def test_categories_of_a_lightgbm_classifier_are_the_places_of_their_texts(tmp_path: Path) -> None:
    rows, probabilities = kept("lightgbm-categories")
    version = imported(tmp_path, "lightgbm-categories", of=ORDINAL)
    assert np.abs(of_maker(version, rows) - probabilities).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "choices", "why"),
    [
        ("sklearn-three-classes", {}, "the positive one, --class high or --class low or"),
        ("sklearn-three-classes", chosen(label="5"), "has no class 5: it has high, low, middle"),
        ("lightgbm", chosen(label="yes"), "has no class yes: it has 0, 1"),
        ("lightgbm", chosen(output="label"), "label is no probability; say --output probabilities"),
        ("lightgbm", chosen(output="score"), "it has no output score; it has label"),
        ("pytorch", chosen(label="1"), "has one column, no classes: omit --class"),
        ("pytorch-two-logits", {}, "if these are logits, say --apply softmax, or sigmoid"),
        ("sklearn-columns-and-texts", {}, "the component has no column channel; it has amount,"),
        ("keras", {"constants": {"y": np.zeros(3)}}, "it has no input y to give a constant"),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_asked_for_by_the_option_that_says_it(
    tmp_path: Path, name: str, choices: dict[str, Any], why: str
) -> None:
    with pytest.raises(ImportRefused, match=r"is not imported") as refused:
        imported(tmp_path, name, **choices)
    assert why in str(refused.value)
    assert not Registry(tmp_path).has("p", "risk")


def test_a_map_is_read_by_its_labels_whatever_their_order(tmp_path: Path) -> None:
    """A runtime gives maps in the order of their labels, which need not be that of the classes."""
    model = onnx.load_model_from_string((FILES / "sklearn-three-classes.onnx").read_bytes())
    texts = [b"middle", b"high", b"low"]
    for node in model.graph.node:
        for each in node.attribute:
            if node.op_type == "ZipMap" and each.name == "classlabels_strings":
                each.strings[:] = texts
    rows, probabilities = kept("sklearn-three-classes")
    version = import_model(
        NUMBERS, "risk", model.SerializeToString(), Registry(tmp_path), source="other.onnx",
        choices=ImportChoices(OutputChoice(label="middle")), clock=lambda: NOON,
    )  # fmt: skip
    assert np.abs(of_maker(version, rows) - probabilities).max() < 1e-5, "the first class"
