"""Which models still fit a pipeline file that was changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.registry.model_inputs import reads
from topics.pipeline.file import load_pipeline
from topics.pipeline.schema import Pipeline

STATELESS = Path(__file__).with_name("stateless.yaml")
FEATURES = ["amount", "amount_log", "hour", "is_night", "is_weekend"]
OWN = """
  - name: own
    import: mine:Own
    from: [features]
"""


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return load_pipeline(STATELESS).pipeline


def test_a_model_fits_the_columns_that_the_file_declares(pipeline: Pipeline) -> None:
    assert reads(pipeline, "features", FEATURES)
    assert reads(pipeline, "risk-linear", FEATURES)
    assert reads(pipeline, "decision", [*FEATURES, "risk-linear", "risk-forest"])


@pytest.mark.parametrize(
    "columns",
    [
        FEATURES[:-1],
        [*FEATURES, "risk-linear"],
        [FEATURES[1], FEATURES[0], *FEATURES[2:]],
        ["amount", "amount_log", "hour", "is_night", "is_holiday"],
        [],
    ],
)
def test_a_model_of_other_columns_does_not(pipeline: Pipeline, columns: list[str]) -> None:
    assert not reads(pipeline, "risk-linear", columns)


def test_an_own_component_may_give_any_number_of_its_columns(tmp_path: Path) -> None:
    text = STATELESS.read_text().replace("components:\n", f"components:{OWN}", 1)
    text = text.replace("from: [features, risk-linear", "from: [own, features, risk-linear", 1)
    (tmp_path / "own.yaml").write_text(text)
    pipeline = load_pipeline(tmp_path / "own.yaml").pipeline
    rest = [*FEATURES, "risk-linear", "risk-forest"]
    assert reads(pipeline, "decision", ["own", *rest])
    assert reads(pipeline, "decision", ["own[0]", "own[1]", *rest])
    assert not reads(pipeline, "decision", ["other", *rest])
    assert not reads(pipeline, "decision", [*rest, "own"])
