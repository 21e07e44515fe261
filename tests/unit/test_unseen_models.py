"""Figures are of what serves, on rows that it has not seen, or there are none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from agents.components.catalogue import open_component
from agents.demo.evaluation_data import not_measured
from models.errors import HoldoutSeen
from models.imports.import_model import import_model
from models.onnx.session import ModelSession
from models.registry.registry import Registry
from models.report.page import report_page
from models.report.training_report import ComponentReport
from models.training.estimators import fit
from models.training.export import export
from models.training.train import TrainingData, TrainingReport, train
from models.training.unseen_rows import MAY_HAVE_SEEN
from tests.unit.onnx_networks import model
from topics.pipeline.schema import Pipeline

ROWS = 1000
HOUR_MS = 3_600_000
START = datetime(2025, 1, 1, tzinfo=UTC)
TREE = {"estimator": "sklearn.tree.DecisionTreeClassifier"}
LINEAR = {"estimator": "sklearn.linear_model.LogisticRegression"}
Labels = NDArray[np.bool_]


def hour(number: float) -> datetime:
    return START + timedelta(hours=number)


def pipeline(risk: dict[str, Any], weights: Any = "learned") -> Pipeline:
    fields = {each: {"type": "number"} for each in "abc"}
    return Pipeline.model_validate({
        "pipeline": "p",
        "event": {
            "id": "id", "key": "id", "time": "at",
            "fields": {"id": {"type": "string"}, "at": {"type": "timestamp"}, **fields},
        },
        "outcomes": {"delay": "1ms"},
        "components": [
            {
                "name": "features", "kind": "extract_features", "from": ["events"],
                "features": [{"name": each, "of": each} for each in "abc"],
            },
            {"name": "risk", "kind": "assess_risk", "from": ["features"], "model": risk},
            {"name": "plain", "kind": "assess_risk", "from": ["features"], "model": LINEAR},
            {"name": "decision", "kind": "decide", "from": ["features", "risk"], "model": LINEAR},
        ],
        "weighting": {"from": ["risk", "plain"], "weights": weights},
        "policy": {"thresholds": {"decline": 0.5}, "costs": {
            "approve": {"positive": 10, "negative": 0}, "decline": {"positive": 0, "negative": 1},
        }},
    })  # fmt: skip


def events(rows: int = ROWS, first: int = 0, seed: int = 3) -> TrainingData:
    """An event an hour; column a says a little of the outcome, b and c nothing."""
    rng = np.random.default_rng(seed + first)
    labels = rng.random(rows) < 0.4
    columns: dict[str, Any] = {each: rng.normal(size=rows) for each in "abc"}
    columns["a"] = columns["a"] + 0.5 * labels
    columns["id"] = np.array([f"e{first + row}" for row in range(rows)], dtype=object)
    columns["at"] = int(START.timestamp() * 1000) + (first + np.arange(rows)) * HOUR_MS
    return TrainingData(columns, labels)


def matrix(data: TrainingData) -> NDArray[np.float32]:
    return np.stack([data.columns[each] for each in "abc"], axis=1).astype(np.float32)


def remembering(data: TrainingData) -> bytes:
    """A model that knows the outcome of every row of *data*, and nothing else."""
    x = matrix(data)
    return export(fit(DecisionTreeClassifier(random_state=0), x, data.labels), x)


def always(value: float) -> bytes:
    """A model that gives every row the same signal."""
    constants = [
        numpy_helper.from_array(np.zeros((3, 1), np.float32), "w"),
        numpy_helper.from_array(np.array([value], np.float32), "value"),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Add", ["z", "value"], ["signal"]),
    ]
    return model(nodes, constants, 3)


def auc(content: bytes, data: TrainingData, rows: slice) -> float:
    signal = ModelSession.of(content, "m").signal(matrix(data)[rows])
    return float(roc_auc_score(data.labels[rows], signal))


def trained(
    folder: Path, risk: dict[str, Any], data: TrainingData | None = None,
    only: Sequence[str] | None = None, weights: Any = "learned", **options: Any,
) -> TrainingReport:  # fmt: skip
    return train(
        pipeline(risk, weights), folder, data or events(), Registry(folder / "registry"),
        open_component=open_component, only=only, **options,
    )  # fmt: skip


def imported(folder: Path, content: bytes, **options: Any) -> None:
    clock = options.pop("clock", lambda: datetime.now(UTC))
    import_model(
        pipeline(TREE), "risk", content, Registry(folder / "registry"), source="net.onnx",
        clock=clock, **options,
    )  # fmt: skip


@pytest.fixture
def filed(tmp_path: Path) -> Path:
    """A folder with risk.onnx, which knows the first 800 of the events by heart."""
    data = events()
    (tmp_path / "risk.onnx").write_bytes(remembering(data.picked(np.arange(800))))
    return tmp_path


def test_a_file_that_may_have_seen_the_rows_is_not_measured_and_nothing_that_reads_it(
    filed: Path,
) -> None:
    report = trained(filed, {"path": "risk.onnx"})
    risk = report.components["risk"]
    assert (risk.auc, risk.average_precision, risk.log_loss, risk.measured) == (None,) * 4
    assert risk.not_measured == MAY_HAVE_SEEN == "may have seen these rows"
    assert report.components["decision"].not_measured == f"reads risk, which {MAY_HAVE_SEEN}"
    assert report.components["plain"].auc is not None
    assert report.composed.auc is None
    assert report.composed.not_measured == f"risk {MAY_HAVE_SEEN}"
    assert (report.cutoffs, report.held_out.policy, report.held_out.costs) == (None, None, None)
    assert list(report.held_out.curves) == ["plain"]
    content = json.loads(report.model_dump_json())["components"]["risk"]
    assert (content["auc"], content["not_measured"]) == (None, "may have seen these rows")
    assert report.notes[0] == (
        "risk is not measured: may have seen these rows; its weight 0.500 is an equal share, not "
        "learned"
    )
    assert "--holdout FILE" in report.notes[-1]
    assert "risk is not measured: may have seen" in report_page(report, START)


def test_no_weight_is_learned_from_what_is_not_measured(filed: Path) -> None:
    report = trained(filed, {"path": "risk.onnx"})
    assert report.weights == {"risk": 0.5, "plain": 0.5}
    assert report.not_learned == ["risk"]
    card = Registry(filed / "registry").weights("p").card
    assert (card.values, card.not_learned) == ({"risk": 0.5, "plain": 0.5}, ["risk"])
    assert "auc" not in card.metrics
    assert Registry(filed / "registry").latest("p", "decision").card.metrics == {}
    assert "auc" in Registry(filed / "registry").latest("p", "plain").card.metrics


def test_a_file_is_measured_on_events_later_than_it_was_trained_until(filed: Path) -> None:
    content, data = (filed / "risk.onnx").read_bytes(), events()
    assert auc(content, data, slice(0, 800)) == 1.0
    report = trained(filed, {"path": "risk.onnx", "trained_until": hour(799)})
    risk = report.components["risk"]
    assert risk.auc == pytest.approx(auc(content, data, slice(900, 1000)), abs=1e-9)
    assert (risk.auc or 1) < 0.7
    assert (risk.measured, risk.digest) == ("itself", ModelSession.of(content, "m").digest)
    assert report.composed.auc is not None
    assert report.not_learned == []
    card = Registry(filed / "registry").weights("p").card
    assert card.models["risk"] == risk.digest


def test_figures_are_of_the_rows_that_no_model_has_seen(filed: Path) -> None:
    content, data = (filed / "risk.onnx").read_bytes(), events()
    report = trained(filed, {"path": "risk.onnx", "trained_until": hour(849.5)})
    assert report.held_out.rows == 75  # the second half of 850 … 999
    expected = auc(content, data, slice(925, 1000))
    assert report.components["risk"].auc == pytest.approx(expected, abs=1e-9)


def test_too_few_later_rows_are_no_measure(filed: Path) -> None:
    report = trained(filed, {"path": "risk.onnx", "trained_until": hour(989)})
    assert report.components["risk"].not_measured == (
        f"{MAY_HAVE_SEEN}: only 10 are later than {hour(989).isoformat()}"
    )
    assert report.held_out.rows == 100, "the others are judged on all that was held back"


def test_rows_of_a_holdout_measure_every_model_and_are_fitted_on_by_none(filed: Path) -> None:
    content, later = (filed / "risk.onnx").read_bytes(), events(300, first=ROWS)
    report = trained(filed, {"path": "risk.onnx"}, holdout=later)
    assert report.components["risk"].auc == pytest.approx(
        auc(content, later, slice(150, 300)), abs=1e-9
    )
    assert report.composed.auc is not None
    assert (report.held_out.rows, report.held_out.declared) == (150, True)
    assert report.not_learned == []
    card = Registry(filed / "registry").latest("p", "plain").card
    assert (card.rows, card.trained_until) == (ROWS, hour(999).isoformat())
    assert card.data_hash == events().digest()
    flipped = TrainingData(later.columns, ~later.labels)
    trained(filed, {"path": "risk.onnx"}, holdout=flipped)
    registry = Registry(filed / "registry")
    assert registry.get("p", "plain", 1).digest == registry.get("p", "plain", 2).digest


def test_a_holdout_of_training_rows_is_refused(filed: Path) -> None:
    with pytest.raises(HoldoutSeen, match=r"^10 events of the holdout .* by id \(one is e990\)"):
        trained(filed, {"path": "risk.onnx"}, holdout=events(300, first=990))


def test_an_import_that_always_says_the_same_is_no_better_than_chance(tmp_path: Path) -> None:
    before = trained(tmp_path, LINEAR)
    assert (before.components["risk"].auc or 0) > 0.55, "what its estimator reaches"
    imported(tmp_path, always(0.5), trained_until=START)
    report = trained(tmp_path, LINEAR, only=["decision"])
    risk = report.components["risk"]
    assert (risk.version, risk.auc, risk.measured) == (2, 0.5, "itself")
    path = Registry(tmp_path / "registry").latest("p", "risk")
    assert risk.digest == path.digest == report_digest(tmp_path)
    assert before.weights["risk"] > report.weights["risk"]
    assert report.weights["risk"] < 0.6


def report_digest(folder: Path) -> str:
    """What the newest weights were learned for."""
    return Registry(folder / "registry").weights("p").card.models["risk"]


def test_an_import_has_seen_nothing_that_came_after_it(tmp_path: Path) -> None:
    trained(tmp_path, TREE)
    imported(tmp_path, remembering(events()), clock=lambda: hour(799))
    report = trained(tmp_path, TREE, only=["decision"])
    assert report.components["risk"].auc == 1.0
    imported(tmp_path, remembering(events()))  # today: long after these events
    report = trained(tmp_path, TREE, only=["decision"])
    assert report.components["risk"].auc is None
    assert (report.components["risk"].not_measured or "").startswith(MAY_HAVE_SEEN)
    assert report.weights["risk"] == 0.5


def test_a_version_fitted_on_these_rows_is_judged_as_its_own_training_did(tmp_path: Path) -> None:
    before = trained(tmp_path, TREE)
    report = trained(tmp_path, TREE, only=["decision"])
    assert report.components["risk"].measured == "stand-in"
    assert without_names(report.components["risk"]) == without_names(before.components["risk"])
    assert report.weights == before.weights
    assert report.notes[0].startswith("risk stays as it is; its figures are of a model fitted in")


def without_names(part: ComponentReport) -> dict[str, Any]:
    return part.model_dump(exclude={"version", "measured"})


def test_an_older_version_is_judged_itself_on_what_came_later(tmp_path: Path) -> None:
    trained(tmp_path, TREE, events(800))
    content = Registry(tmp_path / "registry").latest("p", "risk").read()
    longer = TrainingData(
        {
            name: np.concatenate([column, events(200, first=800).columns[name]])
            for name, column in events(800).columns.items()
        },
        np.concatenate([events(800).labels, events(200, first=800).labels]),
    )
    assert auc(content, longer, slice(0, 800)) == 1.0
    report = trained(tmp_path, TREE, longer, only=["decision"])
    risk = report.components["risk"]
    assert (risk.version, risk.measured) == (1, "itself")
    assert risk.auc == pytest.approx(auc(content, longer, slice(900, 1000)), abs=1e-9)
    other = trained(tmp_path, TREE, events(800, seed=9), only=["decision"])
    assert (other.components["risk"].not_measured or "").startswith(MAY_HAVE_SEEN)


def test_weights_that_the_file_fixes_stay_and_are_not_measured_where_they_weigh_it(
    filed: Path,
) -> None:
    report = trained(filed, {"path": "risk.onnx"}, weights={"risk": 0.25, "plain": 0.75})
    assert report.weights == {"risk": 0.25, "plain": 0.75}
    assert report.composed.auc is None
    report = trained(filed, {"path": "risk.onnx"}, weights={"risk": 0, "plain": 1})
    assert report.composed.auc == report.components["plain"].auc


def test_rows_without_times_cannot_be_later_than_anything(filed: Path) -> None:
    written = pipeline({"path": "risk.onnx", "trained_until": hour(1)}).model_dump(by_alias=True)
    untimed = Pipeline.model_validate({**written, "data": {"published_at": "at"}})
    report = train(
        untimed, filed, events(), Registry(filed / "registry"), open_component=open_component
    )
    assert report.components["risk"].not_measured == MAY_HAVE_SEEN
    assert Registry(filed / "registry").latest("p", "plain").card.trained_until is None


@pytest.mark.parametrize(
    ("written", "until"),
    [
        ("2026-01-31T00:00:00Z", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T01:00:00+01:00", "2026-01-31T01:00:00+01:00"),
        ("2026-01-31", "2026-01-31T23:59:59.999000+00:00"),
        (datetime(2026, 1, 31).date(), "2026-01-31T23:59:59.999000+00:00"),
        (datetime(2026, 1, 31, 5), "2026-01-31T05:00:00+00:00"),
    ],
)
def test_trained_until_is_a_time_or_a_whole_day(written: object, until: str) -> None:
    found = pipeline({"path": "risk.onnx", "trained_until": written}).component("risk").model
    assert found is not None
    assert found.trained_until is not None
    assert found.trained_until.isoformat() == until


def test_trained_until_is_of_a_path() -> None:
    with pytest.raises(ValidationError, match="models import --trained-until says it"):
        pipeline({**TREE, "trained_until": "2026-01-31"})


def test_an_evaluation_has_no_figures_of_a_file_that_may_be_of_its_test_days(
    tmp_path: Path,
) -> None:
    registry = Registry(tmp_path / "registry")

    def lacking(risk: dict[str, Any], first_test: str) -> list[str]:
        return list(not_measured(pipeline(risk), registry, date.fromisoformat(first_test)))

    assert lacking({"path": "risk.onnx"}, "2025-01-05") == ["risk", "decision"]
    dated = {"path": "risk.onnx", "trained_until": "2025-01-04"}
    assert lacking(dated, "2025-01-04") == ["risk", "decision"]
    assert lacking(dated, "2025-01-05") == []
    assert lacking(TREE, "2025-01-05") == []
    imported(tmp_path, always(0.5), clock=lambda: hour(24))
    assert lacking({**TREE, "version": 1}, "2025-01-02") == ["risk", "decision"]
    assert lacking({**TREE, "version": 1}, "2025-01-03") == []
