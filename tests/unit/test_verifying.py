"""A version is right when its card, model and probe are; every wrong one is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from agents.cli import app
from models.onnx.probing import probe_of
from models.onnx.session import ModelSession
from models.onnx.version_check import verify_versions
from models.registry.probe import Probe
from models.registry.registry import Registry
from tests.unit.registry_cards import CARD, WEIGHTS, background_of
from tests.unit.test_session import mean_of, rows_of


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry, model = Registry(tmp_path), mean_of()
    probe = probe_of(ModelSession.of(model, "m"), rows_of(9, 3))
    for component in ("features", "risk"):
        registry.add("p", component, model, CARD)
    registry.add("p", "risk", mean_of(keepdims=1), CARD, probe)
    registry.add_weights("p", WEIGHTS, background_of(5))
    return registry


def wrong(registry: Registry, component: str | None = None, *, run: bool = False) -> list[str]:
    checked = verify_versions(registry, "p", component, run=run)
    return [f"{each.component}@{each.version}" for each in checked if each.wrong is not None]


def test_all_is_well_with_what_was_just_added(registry: Registry) -> None:
    assert len(list(verify_versions(registry, "p", run=True))) == 4
    assert wrong(registry, run=True) == []


@pytest.mark.parametrize("damage", [flipped, cut_off, Path.unlink])
@pytest.mark.parametrize("what", ["card", "model", "probe", "weights", "background"])
def test_damage_to_one_file_is_one_wrong_version(
    registry: Registry, tmp_path: Path, damage: Callable[[Path], object], what: str
) -> None:
    version, background = registry.get("p", "risk", 2), registry.weights("p").background_file
    assert version.probe_file is not None
    assert background is not None
    damage(tmp_path / {
        "card": "p/risk/2/card.json", "model": version.file, "probe": version.probe_file,
        "weights": "p/@weights/1/weights.json", "background": background,
    }[what])  # fmt: skip
    of_weights = what in ("weights", "background")
    assert wrong(registry) == ["@weights@1" if of_weights else "risk@2"]
    assert wrong(registry, "features") == []
    assert wrong(registry, "@weights") == (["@weights@1"] if of_weights else [])


def test_a_model_that_says_other_things_here_is_found_by_running_it(registry: Registry) -> None:
    rows = rows_of(9, 3)
    registry.add("p", "risk", mean_of(), CARD, Probe(rows, np.zeros(9, np.float32)))
    registry.add("p", "risk", b"no model", CARD)
    assert wrong(registry) == []
    assert wrong(registry, run=True) == ["risk@3", "risk@4"]


def test_the_command_runs_the_models_unless_it_is_told_not_to(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(9, 3)
    registry.add("p", "risk", mean_of(), CARD, Probe(rows, np.zeros(9, np.float32)))
    monkeypatch.setenv("ANABRANCH_REGISTRY", str(tmp_path))
    done = CliRunner().invoke(app, ["models", "verify", "p"])
    assert done.exit_code == 1
    assert "risk@3: the model" in done.stdout
    assert "9 of 9 probe rows have other signals" in done.stdout
    assert CliRunner().invoke(app, ["models", "verify", "p", "--no-run"]).exit_code == 0
