"""Training walks the pipeline in time order, and no stage sees what it is judged on."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from models.component import Batch, Column, Component, StageOutput
from models.errors import (
    ComponentFailed,
    LengthMismatch,
    MissingField,
    NotFinite,
    NotTrainable,
    OneClass,
    TooFewRows,
    TrainingError,
)
from models.features.vector import FeatureVector
from models.imports.import_model import import_model
from models.onnx.session import ModelSession
from models.registry.background import BACKGROUND_ROWS
from models.registry.registry import Registry
from models.report.training_report import Figures, cutoffs
from models.training import estimators
from models.training import fit as fitting
from models.training.export import export
from models.training.splits import blocks, levels
from models.training.train import TrainingData, TrainingReport, train
from tests.unit.onnx_networks import network
from topics.errors import AnabranchError
from topics.pipeline.file import load_pipeline
from topics.pipeline.readers import in_order
from topics.pipeline.schema import Pipeline

ROWS = 3000
FOLDER = Path(__file__).parents[2] / "deploy" / "pipelines"
SMALL: dict[str, dict[str, Any]] = {
    "features": {"n_components": 2},
    "risk-forest": {"n_estimators": 8, "max_depth": 4, "min_samples_leaf": 20},
}
NAMES = ["features", "risk-linear", "risk-forest", "decision"]


def auc_of(part: Figures) -> float:
    """The AUC of what was measured."""
    assert part.auc is not None
    return part.auc


class Opened(NamedTuple):
    component: Component


class Served(Component):
    """A built-in component as serving runs it."""

    def __init__(self, session: ModelSession, features: FeatureVector | None) -> None:
        self.session = session
        self.features = features

    def transform(self, batch: Batch) -> StageOutput:
        if self.features is None:
            return StageOutput.of_signal(self.session.signal(batch.matrix()))
        vector = self.features.compute(batch.columns)
        return StageOutput(vector, self.session.signal(vector.astype(np.float32)))


def open_component(pipeline: Pipeline, name: str, registry: Registry, folder: Path) -> Opened:
    spec = pipeline.component(name)
    assert spec.model is not None
    version = (
        registry.latest(pipeline.name, name)
        if spec.model.version is None
        else registry.get(pipeline.name, name, spec.model.version)
    )
    features = None if spec.features is None else FeatureVector(spec.features)
    return Opened(Served(ModelSession.open(version), features))


def transactions(rows: int = ROWS, seed: int = 5) -> TrainingData:
    """Card transactions, a tenth of them frauds, which are larger and rather at night."""
    rng = np.random.default_rng(seed)
    labels = rng.random(rows) < 0.1
    hours = np.where(labels & (rng.random(rows) < 0.5), rng.uniform(0, 6, rows), 13.0)
    columns: dict[str, Column] = {
        "transaction_id": np.array([f"t-{row}" for row in range(rows)], dtype=object),
        "occurred_at": (np.arange(rows) // 50 * 86_400_000 + hours * 3_600_000).astype(np.int64),
        "customer_id": np.array([f"c-{row % 97}" for row in range(rows)], dtype=object),
        "terminal_id": np.array([f"d-{row % 31}" for row in range(rows)], dtype=object),
        "amount": np.round(rng.lognormal(3.5, 0.8, rows) * np.where(labels, 3.0, 1.0), 2),
    }
    columns["occurred_at"] = np.sort(columns["occurred_at"])
    return TrainingData(columns, labels)


def card_fraud(**changes: object) -> Pipeline:
    """The real pipeline file, with fewer trees, and *changes* to its top level."""
    written = load_pipeline(Path(__file__).parent / "stateless.yaml").pipeline.model_dump(
        by_alias=True
    )
    for component in written["components"]:
        if component["name"] in SMALL:
            component["model"]["parameters"] |= SMALL[component["name"]]
    # Outcomes later than the data is long: blocks are used whole, unless a test says otherwise.
    return Pipeline.model_validate({**written, "outcomes": {"delay": "400d"}, **changes})


def trained(tmp_path: Path, data: TrainingData | None = None, **options: Any) -> TrainingReport:
    pipeline = options.pop("pipeline", None) or card_fraud()
    registry = options.pop("registry", None) or Registry(tmp_path / "registry")
    return train(
        pipeline,
        FOLDER,
        data or transactions(),
        registry,
        open_component=options.pop("open_component", open_component),
        **options,
    )


class Trained(NamedTuple):
    report: TrainingReport
    registry: Registry
    fits: dict[str, list[tuple[NDArray[np.float32], NDArray[np.bool_] | None]]]
    """The two fits of each component."""
    progress: list[tuple[str, float]]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One training of the card-fraud pipeline, with what each estimator was fitted on."""
    fits: dict[str, list[tuple[NDArray[np.float32], NDArray[np.bool_] | None]]] = {}
    progress: list[tuple[str, float]] = []
    fit = estimators.fit

    def spy(estimator: Any, x: Any, y: Any, names: Any, weights: Any = None) -> Any:
        of = {"GaussianMixture": "features", "RandomForestClassifier": "risk-forest"}
        linear = "decision" if "risk-linear" in names else "risk-linear"
        fits.setdefault(of.get(type(estimator).__name__, linear), []).append((x, y))
        return fit(estimator, x, y, names, weights)

    folder = tmp_path_factory.mktemp("trained")
    registry = Registry(folder / "registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "fit", spy)
        report = trained(
            folder, registry=registry, progress=lambda name, share: progress.append((name, share))
        )
    return Trained(report, registry, fits, progress)


def test_each_component_is_first_fitted_on_its_own_block_of_rows(done: Trained) -> None:
    data = transactions()
    for name in ("risk-linear", "risk-forest"):
        assert np.array_equal(done.fits[name][0][1], data.labels[:1800])  # type: ignore[arg-type]
    x, y = done.fits["decision"][0]
    assert np.array_equal(y, data.labels[1800:2400])  # type: ignore[arg-type]
    assert np.array_equal(x[:, 0], data.columns["amount"][1800:2400].astype(np.float32))


def test_the_detector_is_fitted_without_labels(done: Trained) -> None:
    assert [(y, x.shape) for x, y in done.fits["features"]] == [
        (None, (1800, 5)), (None, (ROWS, 5)),
    ]  # fmt: skip


def test_in_the_end_components_are_fitted_on_all_rows_that_are_honest_to_them(
    done: Trained,
) -> None:
    data = transactions()
    for name in ("risk-linear", "risk-forest"):
        assert np.array_equal(done.fits[name][1][1], data.labels)  # type: ignore[arg-type]
    assert np.array_equal(done.fits["decision"][1][1], data.labels[1800:])  # type: ignore[arg-type]
    assert [done.registry.latest("card-fraud", name).card.rows for name in NAMES] == [
        ROWS, ROWS, ROWS, 1200,
    ]  # fmt: skip


def test_the_decision_component_only_reads_risks_of_rows_that_they_were_not_fitted_on(
    done: Trained, tmp_path: Path
) -> None:
    fitted = estimators.load_estimator(
        "sklearn.linear_model.LogisticRegression", {"max_iter": 1000}, 0
    )
    x, y = done.fits["risk-linear"][0]
    (tmp_path / "linear.onnx").write_bytes(export(estimators.fit(fitted, x, y), x))
    everything = done.fits["risk-linear"][1][0]
    signal = ModelSession.open(tmp_path / "linear.onnx").signal(everything)
    assert np.array_equal(done.fits["decision"][0][0][:, 5], signal[1800:2400])
    assert np.array_equal(done.fits["decision"][1][0][:, 5], signal[1800:])


def test_the_model_registered_is_the_one_fitted_in_the_end(done: Trained, tmp_path: Path) -> None:
    fitted = estimators.load_estimator(
        "sklearn.linear_model.LogisticRegression", {"max_iter": 1000}, 0
    )
    x, y = done.fits["risk-linear"][1]
    model = export(estimators.fit(fitted, x, y), x)
    assert done.registry.latest("card-fraud", "risk-linear").read() == model


def test_figures_are_of_models_that_have_not_seen_their_rows(done: Trained, tmp_path: Path) -> None:
    data = transactions()
    labels = data.labels.copy()
    labels[2400:] = ~labels[2400:]
    other = trained(tmp_path, TrainingData(data.columns, labels))
    for name in NAMES:
        flipped = 1 - auc_of(done.report.components[name])
        assert other.components[name].auc == pytest.approx(flipped)
    assert other.weights != done.report.weights


def test_labels_of_the_second_block_change_the_figures_of_the_decision_component_alone(
    done: Trained, tmp_path: Path
) -> None:
    data = transactions()
    labels = data.labels.copy()
    labels[1800:2400] = ~labels[1800:2400]
    other = trained(tmp_path, TrainingData(data.columns, labels))
    changed = [
        name for name in NAMES if other.components[name].auc != done.report.components[name].auc
    ]
    assert changed == ["decision"]


def test_weights_name_the_models_that_they_weigh(done: Trained) -> None:
    models = done.registry.weights("card-fraud").card.models
    assert models == {name: done.registry.latest("card-fraud", name).digest for name in NAMES}


def test_weights_keep_held_out_rows_as_the_topics_have_them(done: Trained) -> None:
    background = done.registry.weights("card-fraud").background()
    assert background.rows == BACKGROUND_ROWS
    assert [*background.outputs] == ["features"], "models are run again, features are recorded"
    features = background.outputs["features"]
    pipeline, data = card_fraud(), transactions()
    vector = FeatureVector(pipeline.component("features").features or [])
    assert features.columns == vector.names
    held_out = vector.compute(data.columns)[ROWS * 8 // 10 :]
    places = np.linspace(0, len(held_out) - 1, BACKGROUND_ROWS).round().astype(int)
    assert np.array_equal(features.output, held_out[places])
    model = ModelSession.open(done.registry.latest("card-fraud", "features"))
    assert features.signal.shape == (BACKGROUND_ROWS,)
    assert model.n_inputs == features.output.shape[1]


def test_weights_are_learned_on_honest_signals_also_when_one_component_is_trained_alone(
    done: Trained, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "registry")
    trained(tmp_path, registry=registry)
    assert trained(tmp_path, registry=registry, only=["decision"]).weights == done.report.weights


def test_weights_do_not_depend_on_the_rows_that_the_report_is_about(
    done: Trained, tmp_path: Path
) -> None:
    data = transactions()
    labels = data.labels.copy()
    labels[2700:] = ~labels[2700:]
    other = trained(tmp_path, TrainingData(data.columns, labels))
    assert other.weights == done.report.weights
    assert other.composed.auc == pytest.approx(1 - auc_of(done.report.composed))


def test_the_same_seed_gives_the_same_models_and_weights(done: Trained, tmp_path: Path) -> None:
    again = trained(tmp_path)
    assert again.weights == done.report.weights
    assert again.components == done.report.components
    assert again.composed == done.report.composed


def test_another_seed_gives_another_forest(done: Trained, tmp_path: Path) -> None:
    other = trained(tmp_path, seed=1).components["risk-forest"].digest
    assert other != done.report.components["risk-forest"].digest


@pytest.mark.parametrize("seed", range(5))
def test_a_forest_on_amounts_in_cents_says_the_same_in_onnx(seed: int, tmp_path: Path) -> None:
    data = transactions(seed=seed)
    x = data.columns["amount"].astype(np.float32)[:, None]
    forest = estimators.load_estimator(
        "sklearn.ensemble.RandomForestClassifier", {"n_estimators": 10, "max_depth": 8}, seed
    )
    fitted = estimators.fit(forest, x, data.labels)
    (tmp_path / "forest.onnx").write_bytes(export(fitted, x))
    signal = ModelSession.open(tmp_path / "forest.onnx").signal(x)
    assert np.abs(signal - fitted.predict_proba(x)[:, 1]).max() < 1e-5


def test_the_report_is_complete_and_better_than_chance(done: Trained) -> None:
    report = done.report
    assert (report.pipeline, report.rows) == ("card-fraud", ROWS)
    assert report.positives == transactions().labels.sum()
    assert list(report.weights) == card_fraud().weighting.inputs
    assert abs(sum(report.weights.values()) - 1) <= 1e-12
    assert report.weights_version == 1
    for name in NAMES:
        assert report.components[name].version == 1
        assert auc_of(report.components[name]) > 0.55
    assert auc_of(report.composed) > 0.75
    assert (report.composed.log_loss or 1) < 0.325  # that of the share of positives, a tenth
    assert report.seconds > 0
    assert TrainingReport.model_validate_json(report.model_dump_json()) == report


def test_cards_say_what_a_model_was_made_of(done: Trained) -> None:
    version = done.registry.latest("card-fraud", "decision")
    card = version.card
    assert card.estimator == "sklearn.linear_model.LogisticRegression"
    assert (card.rows, card.n_inputs) == (1200, 7)
    assert card.data_hash == transactions().digest()
    assert card.metrics["auc"] == done.report.components["decision"].auc, "as `train` shows it"
    assert "scikit-learn" in card.libraries


def test_progress_goes_from_nothing_to_all_for_each_component(done: Trained) -> None:
    assert list(dict.fromkeys(name for name, _ in done.progress)) == in_order(card_fraud())
    for name in NAMES:
        shares = [share for at, share in done.progress if at == name]
        assert shares[0] == 0.0
        assert shares[-1] == 1.0
        assert shares == sorted(shares)


def test_rows_whose_outcome_is_known_too_late_are_not_fitted_or_weighed_on(
    done: Trained, tmp_path: Path
) -> None:
    """Labels that are not known when the next block begins change no figure."""
    pipeline, data = card_fraud(outcomes={"delay": "2d"}), transactions()
    registry = Registry(tmp_path / "registry")
    report = trained(tmp_path, data, pipeline=pipeline, registry=registry)
    assert report.label_delay is not None
    late = {"A": 1800, "B1": 2400, "C, first half": 2700}
    assert list(report.label_delay.left_out) == list(late)
    assert report.label_delay.too_short == []
    labels = data.labels.copy()
    for name, stop in late.items():
        count = report.label_delay.left_out[name]
        times = data.columns["occurred_at"]
        assert (times[stop - count : stop] + 2 * 86_400_000 > times[stop]).all()
        assert times[stop - count - 1] + 2 * 86_400_000 <= times[stop]
        labels[stop - count : stop] = ~labels[stop - count : stop]
    other = trained(tmp_path, TrainingData(data.columns, labels), pipeline=pipeline)
    assert other.weights == report.weights
    assert other.composed == report.composed
    assert registry.latest("card-fraud", "decision").card.rows == 1200, "in the end all are known"
    assert "left out, known only 2d later: " in report.label_delay.note


def test_a_block_too_short_for_the_delay_of_outcomes_is_used_whole_and_named(
    done: Trained,
) -> None:
    delay = done.report.label_delay
    assert delay is not None
    assert (delay.delay, delay.left_out) == ("400d", {})
    assert delay.too_short == ["A", "B1", "C, first half"]
    assert delay.note.startswith("too short to wait 400d for outcomes: A; B1; C, first half (")


def test_rows_without_times_of_their_own_have_no_delay(tmp_path: Path) -> None:
    written = card_fraud().model_dump(by_alias=True)["data"]
    pipeline = card_fraud(data={**written, "published_at": "occurred_at"}, outcomes={"delay": "2d"})
    assert trained(tmp_path, pipeline=pipeline).label_delay is None


def test_rows_out_of_order_are_put_in_time_order(done: Trained, tmp_path: Path) -> None:
    data = transactions()
    data.columns["occurred_at"][:] = np.arange(ROWS) * 600_000
    order = np.random.default_rng(0).permutation(ROWS)
    shuffled = TrainingData({n: c[order] for n, c in data.columns.items()}, data.labels[order])
    back = shuffled.in_time_order("occurred_at")
    assert back.digest() == data.digest() != shuffled.digest()
    assert data.in_time_order("occurred_at") is data


def test_only_refits_the_named_component(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    trained(tmp_path, registry=registry)
    report = trained(tmp_path, registry=registry, only=["risk-linear"])
    assert {name: report.components[name].version for name in NAMES} == {
        "features": 1, "risk-linear": 2, "risk-forest": 1, "decision": 1,
    }  # fmt: skip
    assert report.weights_version == 2


def test_nothing_is_trained_over_an_import_unless_it_is_named(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    trained(tmp_path, registry=registry)
    columns = registry.latest("card-fraud", "risk-linear").card.inputs
    import_model(
        card_fraud(), "risk-linear", network(len(columns)), registry, source="net.onnx",
        trained_until=datetime(2018, 1, 1, tzinfo=UTC), clock=lambda: datetime.now(UTC),
    )  # fmt: skip
    report = trained(tmp_path, registry=registry)
    assert [report.components[name].version for name in NAMES] == [2, 2, 2, 2]
    assert registry.latest("card-fraud", "risk-linear").card.source == "net.onnx"
    assert report.imports == {"risk-linear": "net.onnx"}
    assert report.notes[0] == (
        "risk-linear stays as it was imported from net.onnx: --component risk-linear fits its "
        "estimator"
    )
    assert trained(tmp_path, registry=registry, only=["risk-linear"]).imports == {}
    assert registry.latest("card-fraud", "risk-linear").card.source is None


def test_a_component_kept_on_a_version_is_run_and_not_fitted(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    trained(tmp_path, registry=registry)
    written = card_fraud().model_dump(by_alias=True)
    written["components"][2]["model"]["version"] = 1
    kept = Pipeline.model_validate(written)
    report = trained(tmp_path, registry=registry, pipeline=kept)
    assert [report.components[name].version for name in NAMES] == [2, 2, 1, 2]
    with pytest.raises(NotTrainable, match="start on version 1; trainable: features"):
        trained(tmp_path, registry=registry, pipeline=kept, only=["risk-forest"])


def test_fixed_weights_are_reported_and_not_registered(tmp_path: Path) -> None:
    weighting = card_fraud().weighting.model_dump(by_alias=True)
    fixed = {"features": 0.1, "risk-linear": 0.2, "risk-forest": 0.3, "decision": 0.4}
    pipeline = card_fraud(weighting={**weighting, "weights": fixed})
    report = trained(tmp_path, pipeline=pipeline)
    assert (report.weights, report.weights_version) == (fixed, None)
    assert auc_of(report.composed) > 0.7


def test_only_names_a_component_that_exists() -> None:
    with pytest.raises(NotTrainable, match=r"'risk-tree' cannot be trained: .*no such component"):
        trained(Path(), only=["risk-tree"], registry=Registry(Path()))


@pytest.mark.parametrize(
    ("rows", "message"), [(0, "no rows to train on"), (199, "only 199 rows.* at least 200")]
)
def test_too_few_rows_are_an_error(rows: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(TooFewRows, match=message):
        trained(tmp_path, transactions(rows))


@pytest.mark.parametrize(
    ("block", "name"),
    [
        (slice(0, 1800), "rows 0 to 1799, the block A"),
        (slice(1800, 2400), "rows 1800 to 2399, the block B"),
        (slice(2400, 2700), "rows 2400 to 2699, the block C, first half"),
        (slice(2700, 3000), "rows 2700 to 2999, the block C, second half"),
    ],
)
def test_a_block_with_one_class_is_an_error(block: slice, name: str, tmp_path: Path) -> None:
    data = transactions()
    data.labels[block] = False
    with pytest.raises(OneClass, match=f"all labels are 0 in {name}"):
        trained(tmp_path, data)


def test_labels_of_another_length_are_an_error(tmp_path: Path) -> None:
    data = transactions()
    with pytest.raises(LengthMismatch, match=r"the labels .* 3000 rows, but has 2999"):
        trained(tmp_path, TrainingData(data.columns, data.labels[1:]))


def test_a_column_that_features_need_is_missed_by_name(tmp_path: Path) -> None:
    data = transactions()
    columns = {name: column for name, column in data.columns.items() if name != "amount"}
    with pytest.raises(MissingField, match=r"no column for the event field amount$"):
        trained(tmp_path, TrainingData(columns, data.labels))


def test_a_missing_value_names_the_features_made_of_it(tmp_path: Path) -> None:
    data = transactions()
    data.columns["amount"][7] = np.nan
    with pytest.raises(NotFinite, match=r"columns amount, amount_log .* in 1 rows"):
        trained(tmp_path, data)


def test_a_component_that_fails_is_named_with_its_rows(tmp_path: Path) -> None:
    class Failing(Component):
        def transform(self, batch: Batch) -> StageOutput:
            raise ValueError("no such terminal")

    with pytest.raises(ComponentFailed, match=r"features fails on rows 0 to 2999: ValueError: no"):
        trained(tmp_path, open_component=lambda *_: Opened(Failing()))


def test_a_training_that_fails_registers_nothing(tmp_path: Path) -> None:
    class Failing(Component):
        def transform(self, batch: Batch) -> StageOutput:
            raise ValueError("no such terminal")

    def fails_at_the_last(pipeline: Pipeline, name: str, *rest: Any) -> Opened:
        return Opened(Failing()) if name == "decision" else open_component(pipeline, name, *rest)

    registry = Registry(tmp_path / "registry")
    with pytest.raises(ComponentFailed, match="component decision fails"):
        trained(tmp_path, registry=registry, open_component=fails_at_the_last)
    assert not any(registry.has("card-fraud", name) for name in NAMES)
    assert not registry.has_weights("card-fraud")


def test_a_signal_out_of_range_is_an_error_at_its_row(tmp_path: Path) -> None:
    class Loud(Component):
        def transform(self, batch: Batch) -> StageOutput:
            return StageOutput.of_signal(np.where(np.arange(batch.rows) == 9, 2.0, 0.5))

    with pytest.raises(ComponentFailed, match=r"features fails on rows 9 to 9: .*signal"):
        trained(tmp_path, open_component=lambda *_: Opened(Loud()))


def test_all_training_errors_are_errors_for_people() -> None:
    assert issubclass(TrainingError, AnabranchError)


def test_blocks_are_consecutive_and_do_not_overlap() -> None:
    for rows in (200, 201, 999, 3000):
        for count in (1, 2, 3, 4):
            split = blocks(rows, count)
            parts = [*split.fits, split.weighing, split.report]
            assert len(split.fits) == count
            assert parts[0].start == 0
            assert parts[-1].stop == rows
            edges = list(pairwise(parts))
            if count > 1:
                assert all(one.stop == other.start for one, other in edges)
            assert all(part.stop > part.start for part in parts)


def test_a_component_behind_two_supervised_models_in_a_row_has_a_block_of_its_own() -> None:
    written = card_fraud().model_dump(by_alias=True)
    written["components"].append(
        {**written["components"][3], "name": "second-opinion", "from": ["decision"]}
    )
    pipeline = Pipeline.model_validate(written)
    found = levels(pipeline, ["risk-linear", "risk-forest", "decision", "second-opinion"])
    assert found == {
        "features": 0, "risk-linear": 0, "risk-forest": 0, "decision": 1, "second-opinion": 2,
    }  # fmt: skip
    assert blocks(1000, 3).fits == (slice(0, 600), slice(600, 700), slice(700, 800))


def test_the_clock_is_what_cards_are_dated_by(tmp_path: Path) -> None:
    registry, noon = Registry(tmp_path / "registry"), datetime(2026, 1, 2, 12, tzinfo=UTC)
    trained(tmp_path, registry=registry, clock=lambda: noon)
    assert registry.latest("card-fraud", "decision").card.created_at == noon.isoformat()


def test_cutoffs_are_of_the_models_before_the_refit(
    done: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        fitting.Fits, "again", lambda _fits, _name, _onnx, first, _metrics: (b"a model", first)
    )
    assert trained(tmp_path).cutoffs == done.report.cutoffs


def test_cutoffs_are_reached_by_as_many_rows_as_are_positive_and_twice_as_many() -> None:
    labels = np.arange(1000) >= 900
    scores = np.random.default_rng(1).permutation(1000) / 1000
    found = cutoffs(labels, scores)
    assert (scores >= found.as_many).sum() == 100
    assert (scores >= found.twice_as_many).sum() == 200
    mostly = cutoffs(~labels, scores)
    assert mostly.twice_as_many == scores.min()
