"""A whole pipeline's models are optimised, judged by its decisions, and registered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.components.catalogue import open_component
from agents.service.open_version import open_weights
from models.component import Batch, Component, StageOutput
from models.registry.registry import Registry
from models.registry.variant_table import OptimiseReport
from models.variants.errors import NoDrawing, NothingToOptimise
from models.variants.fusion_speed import fusion_results
from models.variants.model_source import ModelSource, components_of, originals_of
from models.variants.offline_pipeline import OfflinePipeline
from models.variants.optimisation import optimise, register
from models.variants.plot import check_drawable, draw
from tests.unit.test_training import FOLDER, card_fraud, trained, transactions
from topics.pipeline.schema import Pipeline

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
NETWORK = {"estimator": "sklearn.neural_network.MLPClassifier",
           "parameters": {"hidden_layer_sizes": 512, "max_iter": 10}}  # fmt: skip
ANYTHING = {"max_delta": 1, "max_flips": 1, "max_auc_loss": 1, "max_ap_loss": 1, "batch": [256]}


def with_network(**tolerances: Any) -> Pipeline:
    """Card fraud without windows, and with a wide network instead of the linear model."""
    written = card_fraud().model_dump(by_alias=True)
    (linear,) = (each for each in written["components"] if each["name"] == "risk-linear")
    linear["model"] = NETWORK
    return Pipeline.model_validate({**written, "optimise": tolerances or ANYTHING})


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    home, pipeline = tmp_path_factory.mktemp("optimised"), with_network()
    registry = Registry(home / "registry")
    trained(home, pipeline=pipeline, registry=registry)
    weights = open_weights(pipeline, registry).values
    return ModelSource(pipeline, FOLDER, registry, weights, open_component)


@pytest.fixture(scope="module")
def found(setting: ModelSource) -> OptimiseReport:
    report, kept = optimise(setting, transactions(), only="risk-linear")
    return register(setting, report, kept)


def test_every_kind_has_a_row_and_every_row_says_something(found: OptimiseReport) -> None:
    (table,) = found.components
    assert [variant.name for variant in table.variants] == [
        "fp32", "graph-optimised", "fp16", "int8-dynamic", "int8-static",
        "pruned-25", "pruned-50", "pruned-75",
    ]  # fmt: skip
    assert all(variant.words for variant in table.variants)
    assert found.rows == 600, "the last fifth"
    same = table.variant("fp32").losses
    assert same is not None
    assert (same.max_delta, same.flips, same.auc_loss, same.moving_rows) == (0, 0, 0, 0)


def test_dynamic_int8_is_never_eligible(found: OptimiseReport) -> None:
    row = found.components[0].variant("int8-dynamic")
    assert not row.eligible
    assert any("depend on their batch" in words for words in row.words)


def test_the_winner_is_a_version_with_its_table_and_its_parent(
    setting: ModelSource, found: OptimiseReport
) -> None:
    (table,) = found.components
    assert table.chosen not in ("fp32", "int8-dynamic")
    version = setting.registry.get("card-fraud", "risk-linear", None)
    card = version.card
    assert (version.version, card.variant, card.parent) == (table.registered, table.chosen, 1)
    assert card.variants == table.variants
    assert version.probe() is not None
    opened = open_component(setting.pipeline, "risk-linear", setting.registry, FOLDER)
    assert opened.model.variant == table.chosen, "which decisions name"


def test_a_variant_is_made_of_its_parent_not_of_a_variant(
    setting: ModelSource, found: OptimiseReport
) -> None:
    assert found.components[0].registered == 2
    assert originals_of(setting, "risk-linear")["risk-linear"].version == 1


def test_without_tolerance_nothing_that_changes_a_signal_is_chosen(
    setting: ModelSource, found: OptimiseReport
) -> None:
    strict = with_network(max_delta=0, max_flips=0, max_auc_loss=0, batch=[256])
    report, _ = optimise(setting._replace(pipeline=strict), transactions(), only="risk-linear")
    (table,) = report.components
    assert not table.variant("int8-static").eligible
    chosen = table.variant(table.chosen).losses
    assert chosen is not None
    assert chosen.max_delta == 0


class Constant(Component):
    def transform(self, batch: Batch) -> StageOutput:
        return StageOutput.of_signal(np.full(batch.rows, 0.75))


def test_flips_are_those_of_the_whole_pipelines_decisions(setting: ModelSource) -> None:
    data = transactions()
    components = components_of(setting, originals_of(setting, None))
    scene = OfflinePipeline(setting.pipeline, data, components, setting.weights)
    assert scene.flips({}) == 0
    assert scene.flips({"risk-linear": components["risk-linear"]}) == 0

    other = OfflinePipeline(
        setting.pipeline, data, {**components, "risk-forest": Constant()}, setting.weights
    )

    def decided(it: OfflinePipeline) -> list[int]:
        pipeline, scores = setting.pipeline, np.zeros(data.rows)
        for name, weight in setting.weights.items():
            scores += weight * it.signal(name).astype(np.float64)
        return [sum(s >= at for at in pipeline.policy.thresholds.values()) for s in scores.tolist()]

    expected = sum(a != b for a, b in zip(decided(scene), decided(other), strict=True))
    assert expected > 0
    assert scene.flips({"risk-forest": Constant()}) == expected, "decision reads it, so is run too"


def test_a_component_without_a_model_of_the_registry_is_named(setting: ModelSource) -> None:
    with pytest.raises(NothingToOptimise, match=r"'nobody'.*those with one: features, risk-linear"):
        optimise(setting, transactions(), only="nobody")


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_plot_is_drawn(found: OptimiseReport, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"times.{suffix}"
    draw(found, path)
    assert path.stat().st_size > 5_000


@pytest.mark.parametrize(
    ("path", "words"),
    [("times.xyz", "suffix is none of .*svg"), ("times", "suffix"), ("none/t.svg", "folder")],
)
def test_where_no_plot_can_be_drawn_is_said_beforehand(
    tmp_path: Path, path: str, words: str
) -> None:
    with pytest.raises(NoDrawing, match=words):
        check_drawable(tmp_path / path)


@pytest.mark.parametrize("first", ["features", "risk-linear"])
def test_what_a_pipeline_fuses_is_measured_as_one_session(setting: ModelSource, first: str) -> None:
    groups = [[first, "risk-forest", "decision"]]
    if first == "features":
        groups[0].insert(1, "risk-linear")
    pipeline = setting.pipeline.model_copy(update={"fuse": groups})
    components = components_of(setting, originals_of(setting, None))
    scene = OfflinePipeline(pipeline, transactions(), components, setting.weights)
    (found,) = fusion_results(pipeline, components, scene, seed=0)
    assert found.components == groups[0]
    assert found.refused is None
    assert found.speed is not None
    assert found.speed.us_per_row.keys() == {256}
    (own,) = fusion_results(pipeline, {**components, "risk-forest": Constant()}, scene, seed=0)
    assert own.refused == "no ONNX model: risk-forest"
