"""ONNX files of other makers become versions, or are refused with what to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from agents.commands.models.onnx_import import ColumnsMissing, rows_in
from models.imports.errors import ImportRefused, NotImportable
from models.imports.import_model import import_model
from models.onnx.probing import check_probe
from models.onnx.session import ModelSession, ModelUnreadable, WeightsElsewhere
from models.registry.model_inputs import WidthsUnknown, WrongWidth, columns_of, reads
from models.registry.registry import ModelVersion, Registry, RegistryError
from tests.unit.onnx_networks import network, over_the_batch, unbounded
from tests.unit.registry_cards import CARD
from topics.errors import AnabranchError
from topics.pipeline.schema import Pipeline

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ESTIMATOR = {"estimator": "sklearn.linear_model.LogisticRegression"}
PIPELINE = Pipeline.model_validate(
    {
        "pipeline": "p",
        "event": {
            "id": "id", "key": "id", "time": "at",
            "fields": {
                "id": {"type": "string"}, "at": {"type": "timestamp"}, "amount": {"type": "number"},
            },
        },
        "components": [
            {
                "name": "features", "kind": "extract_features", "from": ["events"],
                "features": [{"name": each, "of": "amount"} for each in "abc"],
            },
            {"name": "own", "import": "own:Own", "from": ["features"]},
            {"name": "other", "import": "own:Own", "from": ["features"]},
            {"name": "risk", "kind": "assess_risk", "from": ["features"], "model": ESTIMATOR},
            {
                "name": "filed", "kind": "assess_risk", "from": ["features"],
                "model": {"path": "filed.onnx"},
            },
            {
                "name": "decision", "kind": "decide", "from": ["features", "own", "risk"],
                "model": ESTIMATOR,
            },
            {"name": "both", "kind": "decide", "from": ["own", "other"], "model": ESTIMATOR},
        ],
        "weighting": {"from": ["decision"]},
        "policy": {"thresholds": {"decline": 0.5}},
    }
)  # fmt: skip


def imported(
    home: Path,
    content: bytes,
    name: str = "risk",
    rows: NDArray[np.float32] | None = None,
    folder: Path | None = None,
) -> ModelVersion:
    def given(_: Sequence[str]) -> NDArray[np.float32]:
        assert rows is not None
        return rows

    return import_model(
        PIPELINE, name, content, Registry(home), source="net.onnx", note="a trial", folder=folder,
        rows=None if rows is None else given, clock=lambda: NOON,
    )  # fmt: skip


def test_an_imported_network_is_the_newest_version_and_says_where_it_is_from(
    tmp_path: Path,
) -> None:
    Registry(tmp_path).add("p", "risk", b"before", CARD)
    made = imported(tmp_path, network(3))
    found = Registry(tmp_path).latest("p", "risk")
    assert found == made
    assert found.version == 2
    assert found.read() == network(3)
    card = found.card
    assert (card.estimator, card.source, card.note) == ("onnx", "net.onnx", "a trial")
    assert card.inputs == ["a", "b", "c"]
    assert card.created_at == NOON.isoformat()
    assert card.libraries["pytorch"] == "2.7.0"
    assert card.signature is not None
    assert (card.signature.input, card.signature.width) == ("x", 3)
    assert reads(PIPELINE, "risk", card.inputs)


def test_its_probe_rows_are_of_the_rows_that_were_given(tmp_path: Path) -> None:
    rows = np.random.default_rng(2).uniform(0, 9, (200, 3)).astype(np.float32)
    probe = imported(tmp_path, network(3), rows=rows).probe()
    assert probe is not None
    assert len(probe.rows) == 64
    assert {tuple(row) for row in probe.rows.tolist()} <= {tuple(row) for row in rows.tolist()}
    check_probe(ModelSession.of(network(3), "net.onnx"), probe)


def test_without_rows_it_is_tried_on_random_ones(tmp_path: Path) -> None:
    probe = imported(tmp_path, network(3)).probe()
    assert probe is not None
    assert len(np.unique(probe.signals)) > 32, "they tell one model from another"


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (network(4), WrongWidth, "the model reads 4 columns, component risk gives it 3: a, b, c"),
        (b"\x89PNG not a model", ModelUnreadable, "net.onnx does not load as an ONNX model"),
        (b"", ModelUnreadable, "does not load"),
        (network(3)[:200], ModelUnreadable, "does not load"),
        (over_the_batch(3), ImportRefused, "get other bits in a smaller batch"),
        (unbounded(3), ImportRefused, "signals are in \\[0, 1\\]: end it with a sigmoid"),
    ],
    ids=["width", "no ONNX", "empty", "cut off", "batch-dependent", "no share"],
)  # fmt: skip
def test_what_cannot_be_a_component_s_model_is_refused(
    tmp_path: Path, content: bytes, error: type[RegistryError], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        imported(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir()), "nothing is registered"


@pytest.mark.parametrize(
    ("content", "change"),
    [
        (network(3, output="y"), "the signal is its output y"),
        (network(3, kind=TensorProto.DOUBLE), "reads its input x (double) from float32 columns"),
        (network(3, rows=1), "takes any number of rows: it was exported for 1"),
    ],
    ids=["output", "float64", "one row only"],
)
def test_what_is_not_yet_a_component_s_model_is_made_one(
    tmp_path: Path, content: bytes, change: str
) -> None:
    version = imported(tmp_path, content)
    assert change in version.card.changes
    rows = np.random.default_rng(3).normal(size=(64, 3)).astype(np.float32)
    said = ModelSession.of(version.read(), "made").signal(rows)
    assert np.allclose(said, ModelSession.of(network(3), "net").signal(rows), atol=1e-6)


def saved_apart(folder: Path, location: str = "net.data") -> bytes:
    """The network, with its weights in another file of *folder*."""
    whole = onnx.load_model_from_string(network(3))
    onnx.save(whole, folder / "net.onnx", save_as_external_data=True, size_threshold=0,
              location=location)  # fmt: skip
    return (folder / "net.onnx").read_bytes()


def test_weights_in_another_file_are_refused_with_the_way_out(tmp_path: Path) -> None:
    content = saved_apart(tmp_path)
    with pytest.raises(WeightsElsewhere, match="external_data=False"):
        imported(tmp_path / "registry", content)


def test_weights_in_a_file_beside_it_are_read_into_it(tmp_path: Path) -> None:
    version = imported(tmp_path / "registry", saved_apart(tmp_path), folder=tmp_path)
    (tmp_path / "net.data").unlink()
    rows = np.random.default_rng(3).normal(size=(64, 3)).astype(np.float32)
    said = ModelSession.of(version.read(), "made").signal(rows)
    assert (said == ModelSession.of(network(3), "net").signal(rows)).all()
    assert version.card.changes == ["its weights were read from net.data"]


def leads_out(content: bytes, location: str) -> bytes:
    model = onnx.load_model_from_string(content)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("../secret", "only a file of its own folder is read"),
        ("/etc/hostname", "only a file of its own folder is read"),
        ("gone.data", "the file gone.data beside it, which cannot be read: No such file"),
        ("link.data", "link.data, which leads out of its folder"),
        (".", "only a file of its own folder is read"),
    ],
)
def test_weights_are_read_from_nowhere_else(tmp_path: Path, location: str, why: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 4096)
    (tmp_path / "models" / "link.data").symlink_to(tmp_path / "secret")
    content = leads_out(saved_apart(tmp_path / "models"), location)
    with pytest.raises(ImportRefused, match=why):
        imported(tmp_path / "registry", content, folder=tmp_path / "models")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("features", "it has no model"),
        ("own", "a component of your own"),
        ("weigh", "the pipeline has only features, own"),
    ],
)
def test_a_component_without_a_registered_model_takes_none(
    tmp_path: Path, name: str, why: str
) -> None:
    with pytest.raises(NotImportable, match=why):
        imported(tmp_path, network(3), name)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (np.zeros((99, 2), np.float32), r"shape \(99, 2\), not \(N, 3\)"),
        (np.zeros((31, 3), np.float32), "31 rows show too little"),
        (np.full((99, 3), np.nan, np.float32), "row 1 of the rows has no number in a"),
    ],
)
def test_rows_that_are_not_the_component_s_are_refused(
    tmp_path: Path, rows: NDArray[np.float32], why: str
) -> None:
    with pytest.raises(ImportRefused, match=why):
        imported(tmp_path, network(3), rows=rows)


def test_a_component_of_one_s_own_gives_the_columns_that_are_left() -> None:
    assert columns_of(PIPELINE, "decision", 5) == ["a", "b", "c", "own", "risk"]
    six = columns_of(PIPELINE, "decision", 6)
    assert six == ["a", "b", "c", "own[0]", "own[1]", "risk"]
    assert reads(PIPELINE, "decision", six)
    with pytest.raises(WrongWidth, match="reads 4 columns, component decision gives it 5"):
        columns_of(PIPELINE, "decision", 4)


def test_columns_of_several_components_of_one_s_own_are_those_of_before(tmp_path: Path) -> None:
    with pytest.raises(WidthsUnknown, match="reads own and other, components of your own"):
        imported(tmp_path, network(3), "both")
    before = CARD.model_copy(update={"inputs": ["own[0]", "own[1]", "other"], "n_inputs": 3})
    Registry(tmp_path).add("p", "both", b"before", before)
    assert imported(tmp_path, network(3), "both").card.inputs == before.inputs


def test_rows_are_read_by_the_names_of_columns(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("b,extra,a\n1,x,2\n3.5,y,4\n")
    assert rows_in(str(path), ["a", "b"]).tolist() == [[2, 1], [4, 3.5]]
    with pytest.raises(ColumnsMissing, match=r"rows\.csv has no column c"):
        rows_in(str(path), ["a", "c"])
    np.save(tmp_path / "rows.npy", np.ones((3, 2)))
    assert rows_in(str(tmp_path / "rows.npy"), ["a", "b"]).dtype == np.float32
    for name in ("none.npy", "none.parquet"):
        with pytest.raises(AnabranchError, match=name):
            rows_in(str(tmp_path / name), ["a"])


def test_a_network_may_be_without_a_maker(tmp_path: Path) -> None:
    whole = onnx.load_model_from_string(network(3))
    whole.producer_name = ""
    assert "" not in imported(tmp_path, whole.SerializeToString()).card.libraries
