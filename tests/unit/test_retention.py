"""What a clean-up takes: nothing that anybody needs, nothing that may be about to appear."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from models.onnx.version_check import verify_versions
from models.registry.probe import Probe
from models.registry.registry import CardUnreadable, Registry, digest_of
from models.registry.retention import GRACE_S, Removal, plan_removal, remove
from tests.unit.registry_cards import CARD, WEIGHTS, background_of
from tests.unit.test_session import rows_of


def later() -> float:
    return time.time() + GRACE_S + 10


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Five versions of a component, and two of the weights."""
    registry = Registry(tmp_path)
    for number in range(1, 6):
        rows = rows_of(4, 2, seed=number)
        registry.add("p", "risk", b"%d" % number, CARD, Probe(rows, rows[:, 0].copy()))
    registry.add("p", "features", b"f", CARD)
    registry.add_weights("p", WEIGHTS, background_of(3))
    registry.add_weights("p", WEIGHTS, background_of(4))
    return registry


def versions(removal: Removal) -> list[str]:
    return [f"{component}@{version}" for component, version in removal.versions]


def all_well(registry: Registry) -> bool:
    return all(each.wrong is None for each in verify_versions(registry, "p"))


def test_a_whole_registry_has_nothing_to_remove(registry: Registry) -> None:
    assert plan_removal(registry, "p", clock=later) == Removal([], [])


def test_old_versions_go_with_their_files(registry: Registry) -> None:
    removal = plan_removal(registry, "p", keep=1, clock=later)
    assert versions(removal) == ["@weights@1", "risk@1", "risk@2", "risk@3", "risk@4"]
    assert len(removal.files) == 9
    assert removal.bytes == sum(file.size for file in removal.files) > 0
    remove(registry, "p", removal)
    assert registry.versions("p", "risk") == [5]
    assert registry.weights_versions("p") == [2]
    assert all_well(registry)
    assert plan_removal(registry, "p", keep=1, clock=later) == Removal([], [])
    assert registry.add("p", "risk", b"6", CARD).version == 6


def test_a_plan_removes_nothing(registry: Registry, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    plan_removal(registry, "p", keep=1, clock=later)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_protected_stays(registry: Registry) -> None:
    protected = [("risk", 2), ("@weights", 1), ("risk", 99), ("other", 1)]
    removal = plan_removal(registry, "p", keep=2, protected=protected, clock=later)
    assert versions(removal) == ["risk@1", "risk@3"]


def test_what_a_kept_version_was_made_of_stays_and_what_that_was_made_of(
    registry: Registry,
) -> None:
    registry.add("p", "risk", b"6", CARD.model_copy(update={"parent": 2}))
    registry.add("p", "risk", b"7", CARD.model_copy(update={"parent": 6}))
    removal = plan_removal(registry, "p", keep=1, clock=later)
    assert versions(removal) == ["@weights@1", "risk@1", "risk@3", "risk@4", "risk@5"]


def test_the_models_that_kept_weights_weigh_stay(registry: Registry) -> None:
    models = {"risk": digest_of(b"3"), "gone": digest_of(b"x")}
    registry.add_weights("p", WEIGHTS.model_copy(update={"models": models}))
    removal = plan_removal(registry, "p", keep=1, clock=later)
    assert versions(removal) == ["@weights@1", "@weights@2", "risk@1", "risk@2", "risk@4"]


def test_a_file_of_two_versions_stays_with_the_one_that_stays(registry: Registry) -> None:
    registry.add("p", "risk", b"1", CARD)
    remove(registry, "p", plan_removal(registry, "p", keep=1, clock=later))
    assert registry.latest("p", "risk").read() == b"1"


def test_what_killed_writers_left_goes_when_it_is_old(registry: Registry, tmp_path: Path) -> None:
    orphan = tmp_path / "p" / "@files" / f"{'0' * 64}.onnx"
    aside = tmp_path / "p" / "risk" / ".new-abc"
    aside.mkdir()
    left = [orphan, aside / "card.json", tmp_path / "p" / "@files" / ".new-def"]
    for path in left:
        path.write_bytes(b"half")
    (tmp_path / "p" / "notes.txt").write_text("somebody's own")
    assert plan_removal(registry, "p").files == [], "they may be of a version that is being added"
    for path in left[:2]:
        os.utime(path, (0, 0))
    removal = plan_removal(registry, "p")
    assert {file.name for file in removal.files} == {
        f"p/@files/{'0' * 64}.onnx", "p/risk/.new-abc/card.json",
    }  # fmt: skip
    remove(registry, "p", removal)
    assert not orphan.exists()
    assert not aside.exists()
    assert all_well(registry)


def test_a_card_that_nobody_can_read_stops_it(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "p" / "risk" / "4" / "card.json").write_bytes(b"{}")
    with pytest.raises(CardUnreadable, match="risk/4"):
        plan_removal(registry, "p", clock=later)


def test_the_files_of_older_layouts_are_left_to_their_cards(tmp_path: Path) -> None:
    version = tmp_path / "p" / "risk" / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(b"model")
    card = CARD.model_dump_json(exclude={"note", "source", "signature"})
    (version / "card.json").write_text(f'{{"digest": "{digest_of(b"model")}", "card": {card}}}')
    registry = Registry(tmp_path)
    registry.add("p", "risk", b"newer", CARD)
    assert plan_removal(registry, "p", clock=later) == Removal([], [])
    remove(registry, "p", plan_removal(registry, "p", keep=1, clock=later))
    assert not version.exists()
    assert all_well(registry)


def test_an_object_store_is_cleaned_up_alike() -> None:
    registry = Registry(f"memory://{time.time_ns()}")
    for number in range(3):
        registry.add("p", "risk", b"%d" % number, CARD)
    registry.store.put(f"p/@files/{'0' * 64}.onnx", b"orphan")
    assert plan_removal(registry, "p", keep=1).files == [], "all are young"
    removal = plan_removal(registry, "p", keep=1, clock=later)
    assert versions(removal) == ["risk@1", "risk@2"]
    assert len(removal.files) == 3
    remove(registry, "p", removal)
    assert registry.versions("p", "risk") == [3]
    assert all_well(registry)
