"""Versions are immutable and ascending, and a half-written one is never seen."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from pydantic import ValidationError

from models.registry.background import BACKGROUND_ROWS, Background, RecordedOutput
from models.registry.errors import NoBackground
from models.registry.registry import (
    CardUnreadable,
    ContentGone,
    ModelCard,
    ModelCorrupt,
    ModelMissing,
    ModelNotFound,
    Registry,
    RegistryError,
    StoreFailed,
    digest_of,
)
from tests.unit.registry_cards import CARD, WEIGHTS, background_of
from topics.errors import AnabranchError


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_added_is_found(registry: Registry) -> None:
    added = registry.add("p", "risk", b"model", CARD)
    assert added.version == 1
    assert added.digest == digest_of(b"model")
    assert added.card == CARD
    assert added.read() == b"model"
    assert registry.get("p", "risk", 1) == added
    assert registry.latest("p", "risk") == added
    assert registry.has("p", "risk")


def test_what_has_decided_is_kept_once_and_given_back_by_its_digest(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    digest = registry.keep("p", b"pipeline: p")
    assert digest == digest_of(b"pipeline: p")
    (name,) = files(tmp_path)
    before = (tmp_path / name).stat()
    assert registry.keep("p", b"pipeline: p") == digest
    assert (tmp_path / name).stat() == before, "it is not written again"
    assert registry.kept("p", digest) == b"pipeline: p"
    assert registry.components("p") == []
    with pytest.raises(ContentGone, match="it is not there"):
        registry.kept("q", digest)


def test_nothing_is_read_for_a_digest_that_is_a_path(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    (tmp_path / "p").mkdir()
    for digest in ("sha256:../../secret", "sha256:\0", "", "sha256:" + 64 * "A"):
        with pytest.raises(ContentGone, match="it is none"):
            registry.kept("p", digest)


def test_a_kept_file_that_was_changed_is_refused_and_mended(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    digest = registry.keep("p", b"pipeline: p")
    (name,) = files(tmp_path)
    (tmp_path / name).write_bytes(b"pipeline: q")
    with pytest.raises(ContentGone, match=digest_of(b"pipeline: q")):
        registry.kept("p", digest)
    registry.keep("p", b"pipeline: p")
    assert registry.kept("p", digest) == b"pipeline: p"


def test_weights_are_named_by_the_digest_of_their_card(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    added = registry.add_weights("p", WEIGHTS)
    first, rest = (tmp_path / "p/@weights/1/weights.json").read_bytes().split(b"\n", 1)
    assert added.digest == digest_of(rest)
    assert added.digest.encode() in first
    assert registry.weights("p").digest == added.digest


def test_an_empty_registry_has_nothing(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "not" / "yet")
    assert registry.versions("p", "risk") == []
    assert not registry.has("p", "risk")
    assert not registry.has_weights("p")
    assert not (tmp_path / "not").exists(), "reading makes no folders"


def test_versions_ascend_in_number_not_in_spelling(registry: Registry) -> None:
    for content in range(12):
        assert registry.add("p", "risk", b"%d" % content, CARD).version == content + 1
    assert registry.versions("p", "risk") == list(range(1, 13))
    assert registry.latest("p", "risk").read() == b"11"


def test_the_same_model_twice_is_two_versions(registry: Registry) -> None:
    first, second = (registry.add("p", "risk", b"model", CARD) for _ in range(2))
    assert (first.version, second.version) == (1, 2)
    assert first.digest == second.digest


def test_a_version_stays_as_it_is_when_another_is_added(registry: Registry, tmp_path: Path) -> None:
    first = registry.add("p", "risk", b"one", CARD)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    registry.add("p", "risk", b"two", CARD)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert registry.get("p", "risk", 1) == first


def test_the_number_of_a_removed_version_in_the_middle_is_not_used_again(
    registry: Registry, tmp_path: Path
) -> None:
    for content in (b"one", b"two", b"three"):
        registry.add("p", "risk", content, CARD)
    for path in (tmp_path / "p" / "risk" / "2").iterdir():
        path.unlink()
    (tmp_path / "p" / "risk" / "2").rmdir()
    assert registry.versions("p", "risk") == [1, 3]
    assert registry.add("p", "risk", b"four", CARD).version == 4


def test_pipelines_and_components_are_kept_apart(registry: Registry) -> None:
    registry.add("p", "risk", b"p-risk", CARD)
    registry.add("p", "other", b"p-other", CARD)
    registry.add("q", "risk", b"q-risk", CARD)
    assert registry.latest("p", "risk").read() == b"p-risk"
    assert registry.latest("q", "risk").read() == b"q-risk"
    assert registry.versions("p", "other") == [1]


@pytest.mark.parametrize(("version", "which"), [(None, "risk"), (7, "risk@7")])
def test_what_is_not_there_is_missed_by_name(
    registry: Registry, version: int | None, which: str
) -> None:
    ask = registry.latest if version is None else partial(registry.get, version=version)
    with pytest.raises(ModelNotFound, match=f"no model of {which} for pipeline p") as caught:
        ask("p", "risk")
    assert "anabranch train p" in str(caught.value)
    assert ("take out the version" in str(caught.value)) == (version is not None)
    assert isinstance(caught.value, RegistryError)
    assert isinstance(caught.value, AnabranchError)


def test_a_version_that_is_not_there_is_told_with_those_that_are(registry: Registry) -> None:
    """It may be asked for by `anabranch train`: to run that is no advice."""
    registry.add_weights("p", WEIGHTS)
    with pytest.raises(ModelNotFound, match="there are versions 1: name one of these") as caught:
        registry.weights("p", 7)
    assert "anabranch train" not in str(caught.value)


def test_a_model_that_was_changed_is_corrupt(registry: Registry) -> None:
    added = registry.add("p", "risk", b"model", CARD)
    Path(added.location).write_bytes(b"modeL")
    with pytest.raises(ModelCorrupt, match="was changed") as caught:
        registry.latest("p", "risk").read()
    assert digest_of(b"model") in str(caught.value)
    assert digest_of(b"modeL") in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"digest": "sha256:00"}', b"null"],
    ids=["empty", "cut off", "a list", "not UTF-8", "no card", "null"],
)
def test_a_card_that_is_not_a_card_is_unreadable(
    registry: Registry, tmp_path: Path, content: bytes
) -> None:
    registry.add("p", "risk", b"model", CARD)
    (tmp_path / "p" / "risk" / "1" / "card.json").write_bytes(content)
    with pytest.raises(CardUnreadable, match=r"card\.json is not readable"):
        registry.latest("p", "risk")


def test_a_card_of_a_later_version_of_anabranch_is_unreadable(
    registry: Registry, tmp_path: Path
) -> None:
    registry.add("p", "risk", b"model", CARD)
    path = tmp_path / "p" / "risk" / "1" / "card.json"
    rest = path.read_bytes().split(b"\n", 1)[1].replace(b'"format": 2', b'"format": 3')
    path.write_bytes(b'{"card_digest": "%s",\n%s' % (digest_of(rest).encode(), rest))
    with pytest.raises(CardUnreadable, match=r"card\.json is not readable: 1 validation error"):
        registry.latest("p", "risk")


def test_a_version_without_a_card_is_unreadable(registry: Registry, tmp_path: Path) -> None:
    registry.add("p", "risk", b"model", CARD)
    (tmp_path / "p" / "risk" / "1" / "card.json").unlink()
    with pytest.raises(CardUnreadable, match="it is missing"):
        registry.get("p", "risk", 1)


def test_a_version_without_its_model_says_so(registry: Registry) -> None:
    added = registry.add("p", "risk", b"model", CARD)
    Path(added.location).unlink()
    with pytest.raises(ModelMissing, match="is missing, though the card of risk@1 names it"):
        registry.latest("p", "risk").read()


@pytest.mark.parametrize("metric", [float("nan"), float("inf")])
def test_a_card_with_a_metric_that_is_no_number_is_refused(metric: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        ModelCard.model_validate({**CARD.model_dump(), "metrics": {"roc_auc": metric}})


def test_a_crash_before_the_rename_leaves_no_version(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def crash(path: Path, target: Path) -> Path:
        if path.is_dir():
            raise OSError(28, "No space left on device")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", crash)
        with pytest.raises(StoreFailed, match=r"risk/1: No space left"):
            registry.add("p", "risk", b"model", CARD)
        with pytest.raises(StoreFailed, match=r"@weights/1: No space left"):
            registry.add_weights("p", WEIGHTS)
    assert registry.versions("p", "risk") == []
    assert not registry.has_weights("p")
    digits = digest_of(b"model").removeprefix("sha256:")
    assert files(tmp_path) == [f"p/@files/{digits}.onnx"], "a whole file, that no card names"
    assert registry.add("p", "risk", b"model", CARD).version == 1


def test_what_a_killed_process_left_behind_is_no_version(
    registry: Registry, tmp_path: Path
) -> None:
    aside = tmp_path / "p" / "risk" / ".new-abc"
    aside.mkdir(parents=True)
    (aside / "model.onnx").write_bytes(b"half")
    assert registry.versions("p", "risk") == []
    with pytest.raises(ModelNotFound):
        registry.latest("p", "risk")
    assert registry.add("p", "risk", b"model", CARD).version == 1


def test_a_version_is_on_the_disk_before_it_is_seen_and_its_name_after(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int | str] = []
    sync, rename = os.fsync, Path.rename

    def watched_sync(descriptor: int) -> None:
        steps.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    def watched_rename(path: Path, target: Path) -> Path:
        steps.append(f"{target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "rename", watched_rename)
    model = Path(registry.add("p", "risk", b"model", CARD).location)
    component = tmp_path / "p" / "risk"
    number = {
        path: path.stat().st_ino
        for path in (model, model.parent, tmp_path / "p", tmp_path, component, component / "1",
                     component / "1" / "card.json")
    }  # fmt: skip
    assert steps == [
        number[tmp_path], number[tmp_path / "p"],  # the new folders' names
        number[model], model.name, number[model.parent],
        number[tmp_path / "p"],
        number[component / "1" / "card.json"], number[component / "1"], "1", number[component],
    ]  # fmt: skip


def test_threads_that_add_at_once_get_different_numbers(tmp_path: Path) -> None:
    threads, each = 2, 20
    start = Barrier(threads)

    def add(thread: int) -> list[int]:
        registry = Registry(tmp_path)
        start.wait()
        return [
            registry.add("p", "risk", b"%d-%d" % (thread, turn), CARD).version
            for turn in range(each)
        ]

    with ThreadPoolExecutor(threads) as pool:
        taken = list(pool.map(add, range(threads)))
    registry = Registry(tmp_path)
    assert sorted(taken[0] + taken[1]) == registry.versions("p", "risk")
    assert registry.versions("p", "risk") == list(range(1, threads * each + 1))
    for thread, versions in enumerate(taken):
        for turn, version in enumerate(versions):
            assert registry.get("p", "risk", version).read() == b"%d-%d" % (thread, turn)


def test_weights_have_versions_of_their_own(registry: Registry) -> None:
    assert registry.add_weights("p", WEIGHTS).version == 1
    newer = WEIGHTS.model_copy(update={"rows": 20})
    assert registry.add_weights("p", newer).version == 2
    assert registry.weights("p").card == newer
    assert registry.weights("p").version == 2
    assert registry.weights("p", 1).card == WEIGHTS
    assert registry.has_weights("p")
    assert not registry.has_weights("q")


def test_weights_keep_their_background_rows_to_the_bit(registry: Registry) -> None:
    version = registry.add_weights("p", WEIGHTS, background_of(7))
    kept, written = registry.weights("p").background(), background_of(7)
    assert kept.rows == 7
    assert kept.outputs.keys() == written.outputs.keys()
    for name, recorded in written.outputs.items():
        assert kept.outputs[name].output.tobytes() == recorded.output.tobytes()
        assert kept.outputs[name].signal.tobytes() == recorded.signal.tobytes()
        assert kept.outputs[name].columns == recorded.columns
    assert registry.add_weights("p", WEIGHTS, background_of(7)).background_file == (
        version.background_file
    ), "equal rows are one file"


def test_weights_without_background_rows_say_what_to_do(registry: Registry) -> None:
    with pytest.raises(NoBackground, match=r"weights@1 of pipeline p .* `anabranch train p`"):
        registry.add_weights("p", WEIGHTS).background()


def test_background_rows_that_were_changed_are_refused(registry: Registry, tmp_path: Path) -> None:
    version = registry.add_weights("p", WEIGHTS, background_of(7))
    path = tmp_path / str(version.background_file)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelCorrupt, match=r"weights@1"):
        version.background()
    path.unlink()
    with pytest.raises(ModelMissing, match=r"weights@1"):
        version.background()


@pytest.mark.parametrize("rows", [0, BACKGROUND_ROWS + 1])
def test_a_background_has_some_rows_and_not_too_many(rows: int) -> None:
    with pytest.raises(ValueError, match="rows"):
        background_of(rows)


def test_a_background_is_of_the_same_rows_all_along_and_of_numbers() -> None:
    one = background_of(3).outputs["features"]
    with pytest.raises(ValueError, match=r"\[3, 4\] rows"):
        Background({"features": one, "terminals": background_of(4).outputs["features"]})
    with pytest.raises(ValueError, match="names for 2 columns"):
        Background({"features": RecordedOutput(one.output, one.signal, ["amount"])})
    with pytest.raises(ValueError, match="not finite"):
        Background({"features": RecordedOutput(one.output * np.nan, one.signal, one.columns)})
    with pytest.raises(ValueError, match="do not fit"):
        Background({"features": RecordedOutput(one.output, one.signal[:2], one.columns)})
    with pytest.raises(ValueError, match="float32"):
        Background({"features": RecordedOutput(one.output, one.output[:, 0], one.columns)})
    with pytest.raises(ValueError, match="no background rows"):
        Background.from_bytes(b"something else")


@pytest.mark.parametrize("version", [None, 0, 3])
def test_weights_that_are_not_there_are_missed(registry: Registry, version: int | None) -> None:
    if version is not None:
        registry.add_weights("p", WEIGHTS)
    with pytest.raises(ModelNotFound, match="no model of weights"):
        registry.weights("p", version)


def test_weights_that_are_no_weights_are_unreadable(registry: Registry, tmp_path: Path) -> None:
    registry.add_weights("p", WEIGHTS)
    (tmp_path / "p" / "@weights" / "1" / "weights.json").write_text('{"values": {"a": "much"}}')
    with pytest.raises(CardUnreadable, match=r"weights\.json"):
        registry.weights("p")


@pytest.mark.parametrize("values", [{"a": 2.0, "b": -1.0}, {"a": 0.5, "b": 0.4}, {}])
def test_weights_without_a_digest_that_are_no_weights_are_unreadable(
    registry: Registry, tmp_path: Path, values: dict[str, float]
) -> None:
    path = tmp_path / "p" / "@weights" / "1" / "weights.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**WEIGHTS.model_dump(), "values": values}))
    with pytest.raises(CardUnreadable, match=r"weights\.json"):
        registry.weights("p")


def test_another_user_can_read_what_the_umask_allows(registry: Registry, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        added = registry.add("p", "risk", b"model", CARD)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "p" / "risk" / "1").stat().st_mode) == 0o755
    assert stat.S_IMODE(Path(added.location).stat().st_mode) == 0o644


@pytest.mark.parametrize("name", ["007", "0", "-3", "\u0663", "2.bak"])
def test_a_folder_with_another_kind_of_name_is_no_version(
    registry: Registry, tmp_path: Path, name: str
) -> None:
    added = registry.add("p", "risk", b"model", CARD)
    (tmp_path / "p" / "risk" / name).mkdir()
    assert registry.versions("p", "risk") == [1]
    assert registry.latest("p", "risk") == added


def test_weights_are_kept_to_the_bit(registry: Registry) -> None:
    values = {"a": 0.1 + 0.2, "b": 1 - (0.1 + 0.2), "c": 5e-324}
    registry.add_weights("p", WEIGHTS.model_copy(update={"values": values}))
    assert registry.weights("p").card.values == values
