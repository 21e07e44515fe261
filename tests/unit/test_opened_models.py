"""A worker starts only with models that say of their probe rows what they said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agents.components.catalogue import open_component
from agents.explanations import VersionGone, place_of
from agents.service.open_version import open_deployed
from models.imports.import_model import import_model
from models.onnx.probing import ProbeFailed, probe_of
from models.onnx.session import ModelSession, ModelUnreadable, WeightsElsewhere
from models.registry.probe import Probe
from models.registry.registry import Registry
from tests.unit.onnx_networks import network
from tests.unit.registry_cards import CARD
from tests.unit.test_external_data import CASES
from tests.unit.test_importing import NOON, PIPELINE
from topics.pipeline import PipelineFile
from topics.pipeline.schema import Pipeline
from topics.records.control import Deployment, VersionRef

READS = CARD.model_copy(update={"inputs": ["a", "b", "c"], "n_inputs": 3})
ROWS = np.random.default_rng(3).normal(size=(40, 3)).astype(np.float32)
RIGHT = probe_of(ModelSession.of(network(3), "net"), ROWS)


def off_by(error: float) -> Probe:
    return Probe(RIGHT.rows, RIGHT.signals + np.float32(error))


def filed(path: str) -> Pipeline:
    """The pipeline with component `filed` on another file."""
    written = PIPELINE.model_dump(by_alias=True)
    next(each for each in written["components"] if each["name"] == "filed")["model"] = {
        "path": path
    }
    return Pipeline.model_validate(written)


def test_the_newest_version_is_run_on_its_probe_at_a_start(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.add("p", "risk", network(3), READS, RIGHT)
    assert open_component(PIPELINE, "risk", registry, tmp_path).model.model == "risk@1"
    registry.add("p", "risk", network(3), READS, off_by(0.01))
    with pytest.raises(ProbeFailed, match=r"have other signals, by up to 0\.01"):
        open_component(PIPELINE, "risk", registry, tmp_path)
    with pytest.raises(ProbeFailed):
        open_deployed(PIPELINE, "risk", Deployment(), registry, tmp_path)


def test_other_rounding_stops_a_promotion_but_no_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(tmp_path)
    before = registry.add("p", "risk", network(3), READS, RIGHT)
    found = registry.add("p", "risk", network(3), READS, off_by(1e-6))
    assert open_component(PIPELINE, "risk", registry, tmp_path).model.model == "risk@2"
    assert "rounds in another way here" in caplog.text
    promoted = Deployment(
        champion=VersionRef(version=2, digest=found.digest),
        previous=VersionRef(version=1, digest=before.digest),
    )
    assert open_deployed(PIPELINE, "risk", promoted, registry, tmp_path).model.model == "risk@1"


def starting_on(version: int) -> Pipeline:
    """The pipeline whose component `risk` starts on a version."""
    written = PIPELINE.model_dump(by_alias=True)
    risk = next(each for each in written["components"] if each["name"] == "risk")
    risk["model"]["version"] = version
    return Pipeline.model_validate(written)


def test_the_version_of_the_file_runs_until_one_is_promoted(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.add("p", "risk", network(3), READS, RIGHT)
    second = registry.add("p", "risk", network(3), READS, RIGHT)
    pipeline = starting_on(1)
    assert open_deployed(pipeline, "risk", Deployment(), registry, tmp_path).model.model == "risk@1"
    promoted = Deployment(champion=VersionRef(version=2, digest=second.digest))
    assert open_deployed(pipeline, "risk", promoted, registry, tmp_path).model.model == "risk@2"
    gone = Deployment(champion=VersionRef(version=3, digest=second.digest))
    assert open_deployed(pipeline, "risk", gone, registry, tmp_path).model.model == "risk@1"


def test_the_path_of_the_file_runs_until_an_import_over_it_is_promoted(tmp_path: Path) -> None:
    registry, pipeline = Registry(tmp_path / "registry"), filed("net.onnx")
    (tmp_path / "net.onnx").write_bytes(network(3))
    version = import_model(
        pipeline, "filed", network(3, output="y"), registry, source="new.onnx", clock=lambda: NOON
    )
    before = open_deployed(pipeline, "filed", Deployment(), registry, tmp_path)
    assert before.model.model == "filed@net.onnx"
    promoted = Deployment(champion=VersionRef(version=1, digest=version.digest))
    opened = open_deployed(pipeline, "filed", promoted, registry, tmp_path)
    assert (opened.model.model, opened.model.digest) == ("filed@1", version.digest)
    # What decisions name is found, whichever of the two it is.
    file = PipelineFile(tmp_path / "p.yaml", pipeline, {}, b"")
    assert place_of(file, registry, "filed", opened.model) == version
    assert place_of(file, registry, "filed", before.model) == tmp_path / "net.onnx"
    with pytest.raises(VersionGone, match=r"in net\.onnx, nor in "):
        place_of(file, registry, "filed", before.model._replace(digest="sha256:none"))


def test_a_version_without_a_probe_is_run_as_before(tmp_path: Path) -> None:
    Registry(tmp_path).add("p", "risk", network(3), READS)
    assert open_component(PIPELINE, "risk", Registry(tmp_path), tmp_path).model.model == "risk@1"


def test_a_file_that_is_no_whole_model_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.ones(7, np.float32).tofile("weights.bin")
    (tmp_path / "far.onnx").write_bytes(CASES["branch"]().SerializeToString())
    with pytest.raises(WeightsElsewhere, match=r"far\.onnx"):
        open_component(filed("far.onnx"), "filed", Registry(tmp_path), tmp_path)
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    with pytest.raises(ModelUnreadable, match=r"zero\.onnx .*: it is a device, not a file"):
        open_component(filed("zero.onnx"), "filed", Registry(tmp_path), tmp_path)
