"""A fit goes on from a version with the rows that are new to it: each once, in order, resumable."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from models.errors import EstimatorError
from models.onnx.session import ModelSession
from models.registry.registry import Registry
from models.training import continuation
from models.training.continuation import Base, Blocks, Continued, ContinuedFits
from models.training.data import TrainingData
from models.training.stage_outputs import StageOutputs
from models.training.training_state import (
    CAN_GO_ON,
    NotIncremental,
    StateNotOpened,
    check_incremental,
    go_on,
    opened_state,
    state_of,
)
from tests.unit.test_training import FOLDER, card_fraud, open_component, trained, transactions
from topics.pipeline.schema import ModelSpec, Pipeline

SGD = "sklearn.linear_model.SGDClassifier"
NAIVE = "sklearn.naive_bayes.GaussianNB"
BLOCK = 256
NAME = "risk-linear"


def renewing(estimator: str, **parameters: object) -> Pipeline:
    """Card fraud, whose linear component goes on learning."""
    written = card_fraud().model_dump(by_alias=True)
    for component in written["components"]:
        if component["name"] == NAME:
            component["model"] |= {"estimator": estimator, "parameters": parameters}
    return Pipeline.model_validate({**written, "renew": {"incremental": [NAME]}})


def spec_of(estimator: str, **parameters: Any) -> ModelSpec:
    return ModelSpec(estimator=estimator, parameters=parameters)


def blocks_of(data: TrainingData, ends_at: int | None = None) -> Blocks:
    """Its rows in blocks; at block *ends_at* the reader is gone."""

    def blocks(first: int) -> Iterator[TrainingData]:
        for place in range(first, -(-data.rows // BLOCK)):
            if place == ends_at:
                raise KeyboardInterrupt
            yield data.picked(np.arange(place * BLOCK, min(data.rows, (place + 1) * BLOCK)))

    return blocks


def continued(
    registry: Registry, pipeline: Pipeline, data: TrainingData, since_ms: int,
    checkpoint: Path | None = None, ends_at: int | None = None, key: str = "",
) -> dict[str, Continued]:  # fmt: skip
    fits = ContinuedFits(
        pipeline, FOLDER, registry, open_component=open_component,
        bases={NAME: Base(registry.latest(pipeline.name, NAME), since_ms)}, in_service={},
        checkpoint=checkpoint, key=key,
    )  # fmt: skip
    return fits.run(blocks_of(data, ends_at), data.rows, BLOCK)


@pytest.mark.parametrize(
    ("estimator", "parameters"),
    [
        (SGD, {"loss": "log_loss"}),
        (SGD, {"loss": "modified_huber", "average": True}),
        ("sklearn.neural_network.MLPClassifier", {"max_iter": 5}),
        ("sklearn.neural_network.MLPClassifier", {"solver": "sgd"}),
        (NAIVE, {}),
        ("sklearn.naive_bayes.BernoulliNB", {}),
    ],
)
def test_what_can_go_on_is_let_through(estimator: str, parameters: dict[str, Any]) -> None:
    check_incremental(spec_of(estimator, **parameters))
    assert estimator.rpartition(".")[2] in CAN_GO_ON


@pytest.mark.parametrize(
    ("estimator", "parameters", "why"),
    [
        ("sklearn.linear_model.LogisticRegression", {}, "it has no partial_fit"),
        ("sklearn.ensemble.RandomForestClassifier", {}, "it has no partial_fit"),
        ("sklearn.neural_network.MLPClassifier", {"solver": "lbfgs"}, "it has no partial_fit"),
        ("sklearn.neural_network.MLPClassifier", {"early_stopping": True}, "early_stopping"),
        (SGD, {"loss": "log_loss", "class_weight": "balanced"}, "class_weight"),
        ("sklearn.linear_model.SGDOneClassSVM", {}, "is no probability"),
    ],
)
def test_what_cannot_go_on_is_refused_and_what_can_is_named(
    estimator: str, parameters: dict[str, Any], why: str
) -> None:
    with pytest.raises(NotIncremental, match=why) as refused:
        check_incremental(spec_of(estimator, **parameters))
    assert "SGDClassifier" in str(refused.value)


def test_a_calibrated_model_cannot_go_on() -> None:
    with pytest.raises(NotIncremental, match="calibration"):
        check_incremental(ModelSpec(estimator=NAIVE, calibration="sigmoid"))


def test_naive_bayes_that_goes_on_is_naive_bayes_of_all_rows(tmp_path: Path) -> None:
    """Its fit is exact: sums of all rows. So what was fed, and that it was once, shows."""
    pipeline, data = renewing(NAIVE), transactions(4000)
    cut = 2500
    registry = Registry(tmp_path / "registry")
    trained(tmp_path, data.picked(np.arange(cut)), pipeline=pipeline, registry=registry)
    base = registry.latest(pipeline.name, NAME)
    state = base.state()
    assert state is not None
    times = data.columns[pipeline.event.time]
    since_ms = int(times[cut - 1])
    new = times > since_ms
    came = continued(registry, pipeline, data, since_ms)[NAME]
    card = came.model.card
    assert card.rows == base.card.rows + int(new.sum())
    assert card.continues is not None
    assert (card.continues.version, card.continues.rows) == (1, int(new.sum()))
    assert card.continues.until == card.trained_until

    session = ModelSession.of(came.model.onnx, NAME)
    fitted = opened_state(state, spec_of(NAIVE))
    stages = StageOutputs(pipeline, data)
    features = open_component(pipeline, "features", registry, FOLDER).component
    stages.run("features", features, lambda _: None)
    x = stages.model_input(NAME, slice(0, data.rows))
    go_on(fitted, x[new], data.labels[new], None)  # in one piece instead of blocks
    assert np.abs(session.signal(x) - fitted.predict_proba(x)[:, 1]).max() < 1e-4  # sums of float32
    counts = opened_state(came.state, spec_of(NAIVE))[-1].class_count_
    assert counts.sum() == base.card.rows + new.sum()


def test_a_fit_that_was_ended_goes_on_where_it_was_and_comes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuation, "CHECKPOINT_BLOCKS", 2)
    pipeline, data = renewing(SGD, loss="log_loss"), transactions(6000)
    registry, checkpoint = Registry(tmp_path / "registry"), tmp_path / "increments.npz"
    trained(tmp_path, data.picked(np.arange(2000)), pipeline=pipeline, registry=registry)
    since_ms = int(data.columns[pipeline.event.time][1999])
    whole = continued(registry, pipeline, data, since_ms)[NAME]
    fed: list[int] = []

    def counted(fitted: Any, x: Any, *rest: Any) -> None:
        fed.append(len(x))
        go_on(fitted, x, *rest)

    monkeypatch.setattr(continuation, "go_on", counted)
    for ends_at in (13, 21, 23):  # before, among, and near the end of what is judged
        with pytest.raises(KeyboardInterrupt):
            continued(registry, pipeline, data, since_ms, checkpoint, ends_at)
    fed.clear()
    resumed = continued(registry, pipeline, data, since_ms, checkpoint)[NAME]
    assert sum(fed) <= 2 * BLOCK
    assert resumed.model.onnx == whole.model.onnx
    assert resumed.model.card.data_hash == whole.model.card.data_hash
    assert resumed.average_precision == whole.average_precision
    assert resumed.reference == whole.reference
    fed.clear()
    continued(registry, pipeline, data, since_ms, checkpoint, key="other rows")
    assert sum(fed) > 3000


def test_it_is_judged_by_what_it_said_before_it_knew(tmp_path: Path) -> None:
    """Labels of the newest fifth are the opposite: who had learned them would be right."""
    pipeline, data = renewing(NAIVE), transactions(4000)
    registry = Registry(tmp_path / "registry")
    trained(tmp_path, data.picked(np.arange(2000)), pipeline=pipeline, registry=registry)
    labels = data.labels.copy()
    labels[3328:] = ~labels[3328:]
    turned = TrainingData(data.columns, labels)
    since_ms = int(data.columns[pipeline.event.time][1999])
    true = continued(registry, pipeline, data, since_ms)[NAME]
    false = continued(registry, pipeline, turned, since_ms)[NAME]
    assert true.judged_rows == 4000 - 3328
    assert true.average_precision is not None
    assert false.average_precision is not None
    assert true.average_precision > 0.2  # a tenth of the rows are positive
    assert false.average_precision < 0.92  # of nine tenths


def test_rows_that_count_more_are_worth_as_many(tmp_path: Path) -> None:
    pipeline, data = renewing(NAIVE), transactions(3000)
    registry = Registry(tmp_path / "registry")
    trained(tmp_path, data.picked(np.arange(2000)), pipeline=pipeline, registry=registry)
    since_ms = int(data.columns[pipeline.event.time][1999])
    weighed = TrainingData(data.columns, data.labels, {}, np.full(data.rows, 20.0))
    state = continued(registry, pipeline, weighed, since_ms)[NAME].state
    counts = opened_state(state, spec_of(NAIVE))[-1].class_count_
    new = int((data.columns[pipeline.event.time] > since_ms).sum())
    base = registry.latest(pipeline.name, NAME).card.rows
    assert counts.sum() == pytest.approx(base + 20 * new)


def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuation, "RECENT_ROWS", 2 * BLOCK)
    pipeline, data = renewing(NAIVE), transactions(2000)
    registry = Registry(tmp_path / "registry")
    trained(tmp_path, data, pipeline=pipeline, registry=registry)
    newest = int(data.columns[pipeline.event.time][-1])

    def peak(count: int) -> int:
        """Of a fit over so many blocks, each made when it is asked for, in bytes."""

        def blocks(first: int) -> Iterator[TrainingData]:
            for place in range(first, count):
                block = transactions(BLOCK, seed=place)
                times = block.columns["occurred_at"] + newest + place * 10**9
                yield TrainingData({**block.columns, "occurred_at": times}, block.labels)

        fits = ContinuedFits(
            pipeline, FOLDER, registry, open_component=open_component, in_service={},
            bases={NAME: Base(registry.latest(pipeline.name, NAME), newest)},
        )  # fmt: skip
        tracemalloc.start()
        try:
            fits.run(blocks, count * BLOCK, BLOCK)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(20)  # whatever is loaded once
    assert peak(120) < 1.5 * peak(20)


def test_nothing_new_is_no_version(tmp_path: Path) -> None:
    pipeline, data = renewing(NAIVE), transactions(2000)
    registry = Registry(tmp_path / "registry")
    trained(tmp_path, data, pipeline=pipeline, registry=registry)
    newest = int(data.columns[pipeline.event.time][-1])
    assert continued(registry, pipeline, data, newest) == {}


def fitted() -> Any:
    rng = np.random.default_rng(0)
    return make_pipeline(StandardScaler(), GaussianNB()).fit(rng.normal(size=(50, 3)), [0, 1] * 25)


def test_a_state_of_another_estimator_is_not_opened() -> None:
    with pytest.raises(StateNotOpened, match="it is a GaussianNB"):
        opened_state(state_of(fitted()), spec_of(SGD, loss="log_loss"))


def test_a_state_that_would_run_something_is_not_opened() -> None:
    hostile = make_pipeline(FunctionTransformer(print), GaussianNB())
    with pytest.raises(StateNotOpened, match="it holds"):
        opened_state(state_of(make_pipeline(FunctionTransformer(Path.unlink), GaussianNB())),
                     spec_of(NAIVE))  # fmt: skip
    with pytest.raises(EstimatorError):
        opened_state(state_of(hostile).replace(b"print", b"input"), spec_of(NAIVE))


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_state_that_is_cut_off_is_not_opened(cut: int) -> None:
    with pytest.raises(StateNotOpened):
        opened_state(state_of(fitted())[:cut], spec_of(NAIVE))


def test_a_state_with_a_schema_of_nonsense_is_not_opened() -> None:
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("schema.json", '{"__class__": "system", "__module__": "os", "content": []}')
    with pytest.raises(StateNotOpened):
        opened_state(content.getvalue(), spec_of(NAIVE))
