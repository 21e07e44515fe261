"""Each estimator family that is claimed says in ONNX what scikit-learn says, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.registry.registry import Registry
from models.training.export import NotExportable
from models.training.train import train
from tests.unit.parity import FAMILIES, Family, measured, row
from tests.unit.test_training import FOLDER, card_fraud, open_component, transactions
from topics.pipeline.schema import Pipeline

TABLE = (Path(__file__).parents[2] / "models" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("family", FAMILIES, ids=[each.name for each in FAMILIES])
def test_a_family_is_what_the_page_says(family: Family) -> None:
    if family.path.startswith("catboost."):
        pytest.importorskip("catboost", reason="catboost is not installed: pip install catboost")
    found = {name: measured(family, name) for name in family.data}
    assert {name for name, each in found.items() if each.refusal} == set(family.refused)
    for each in found.values():
        assert each.difference <= 1e-5
        assert each.moving == 0
        assert "\n" not in each.refusal
    name, converts, _, stable = (cell.strip() for cell in row(family, found).split("|")[1:5])
    documented = next(line for line in TABLE.splitlines() if line.startswith(f"| {name} |"))
    cells = [cell.strip() for cell in documented.split("|")[1:5]]
    assert (cells[1], cells[3]) == (converts, stable), "python -m tests.unit.parity prints rows"


def test_an_estimator_without_onnx_form_leaves_nothing_in_the_registry(tmp_path: Path) -> None:
    written = card_fraud().model_dump(by_alias=True)
    written["components"][0]["model"] = {"estimator": "sklearn.decomposition.PCA"}
    with pytest.raises(NotExportable, match=r"^PCA cannot be exported to ONNX: ") as caught:
        train(
            Pipeline.model_validate(written), FOLDER, transactions(),
            Registry(tmp_path / "registry"), open_component=open_component,
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "registry").exists()
