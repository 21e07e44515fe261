"""A registry in an object store keeps the promises of one in a directory, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from models.registry.registry import (
    CardUnreadable,
    ModelCorrupt,
    ModelMissing,
    ModelNotFound,
    Registry,
    StoreFailed,
    StoreNotUsable,
    digest_of,
)
from tests.unit.registry_cards import CARD, WEIGHTS
from topics.settings import HomeSettings


@pytest.fixture
def url() -> Iterator[str]:
    name = f"/{uuid4().hex}"
    yield f"memory:/{name}"
    if MemoryFileSystem().exists(name):
        MemoryFileSystem().rm(name, recursive=True)


class Driver(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A driver of the tests' own, with the same objects as memory://."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        path = path.replace(f"{cls.protocol}://", "memory://")
        return str(MemoryFileSystem._strip_protocol(path))


def registered(url: str, protocol: str, kind: type[Any]) -> str:
    """The same place, by a driver of the tests' own."""
    fsspec.register_implementation(protocol, kind, clobber=True)
    return url.replace("memory:", f"{protocol}:")


def objects(url: str) -> list[str]:
    root = url.partition(":/")[2]
    return sorted(path.removeprefix(f"{root}/") for path in MemoryFileSystem().find(root))


def test_a_url_in_the_environment_is_where_models_are(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANABRANCH_REGISTRY", f"{url}/models")
    registry = Registry(HomeSettings().registry)
    assert registry.root == f"{url}/models"
    added = registry.add("p", "risk", b"model", CARD)
    assert added.location.startswith(f"{url}/models/p/@files/")
    assert Registry(f"{url}/models/").latest("p", "risk") == added


def test_what_is_added_is_found_and_nothing_else_is_left(url: str) -> None:
    registry = Registry(url)
    assert registry.versions("p", "risk") == []
    assert not registry.has_weights("p")
    for content in range(11):
        assert registry.add("p", "risk", b"%d" % content, CARD).version == content + 1
    assert registry.versions("p", "risk") == list(range(1, 12))
    assert registry.latest("p", "risk").read() == b"10"
    assert registry.add_weights("p", WEIGHTS).version == 1
    assert registry.weights("p").card == WEIGHTS
    assert registry.components("p") == ["risk"]
    assert len(objects(url)) == 11 + 11 + 1
    with pytest.raises(ModelNotFound, match=f"no model of risk@12 for pipeline p in {url}"):
        registry.get("p", "risk", 12)


def test_a_number_that_another_trainer_takes_first_is_left_to_it(url: str) -> None:
    theirs = Registry(url)

    class Slow(Driver):
        protocol = "slow"

        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
            if path.endswith("/risk/1/card.json"):
                theirs.add("p", "risk", b"theirs", CARD)
            super().pipe_file(path, value, mode)

    ours = Registry(registered(url, "slow", Slow))
    assert ours.add("p", "risk", b"ours", CARD).version == 2
    assert theirs.get("p", "risk", 1).read() == b"theirs"
    assert theirs.get("p", "risk", 2).read() == b"ours"


def test_what_was_changed_or_removed_is_not_loaded(url: str) -> None:
    registry, fs = Registry(url), MemoryFileSystem()
    added = registry.add("p", "risk", b"model", CARD)
    fs.pipe_file(added.location, b"modeL")
    with pytest.raises(ModelCorrupt, match="the card of risk@1 says"):
        registry.latest("p", "risk").read()
    fs.rm_file(added.location)
    with pytest.raises(ModelMissing, match="is missing"):
        registry.latest("p", "risk").read()
    card = f"{url}/p/risk/1/card.json"
    fs.pipe_file(card, fs.cat_file(card).replace(b"1000", b"1001"))
    with pytest.raises(CardUnreadable, match="it was changed"):
        registry.latest("p", "risk")


def test_a_full_store_adds_no_version(url: str) -> None:
    class Full(Driver):
        protocol = "full"
        left = 0

        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
            if Full.left == 0:
                raise OSError(28, "No space left on device")
            Full.left -= 1
            super().pipe_file(path, value, mode)

    for Full.left in range(4):  # model, two trials, card
        registry = Registry(registered(url, "full", Full))
        with pytest.raises(StoreFailed, match=r"full://.*: No space left on device"):
            registry.add("p", "risk", b"model", CARD)
        assert Registry(url).versions("p", "risk") == []
    Full.left = 4
    assert Registry(registered(url, "full", Full)).add("p", "risk", b"model", CARD).version == 1


def test_a_store_that_lets_two_create_one_object_is_refused(url: str) -> None:
    class Careless(Driver):
        protocol = "careless"

        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
            super().pipe_file(path, value)

    with pytest.raises(StoreNotUsable, match="ignores the condition"):
        Registry(registered(url, "careless", Careless)).add("p", "risk", b"model", CARD)
    assert objects(url) == [f"p/@files/{digest_of(b'model')[7:]}.onnx"]


def test_a_driver_that_looks_before_it_writes_is_refused(url: str) -> None:
    class Looks(Driver):
        protocol = "looks"
        pipe_file = fsspec.AbstractFileSystem.pipe_file

    with pytest.raises(StoreNotUsable, match="Looks cannot create an object only if"):
        Registry(registered(url, "looks", Looks)).add_weights("p", WEIGHTS)


@pytest.mark.parametrize("root", ["nothing://here", "s3fs-of-nobody://bucket/models"])
def test_a_store_that_nobody_knows_is_refused(root: str) -> None:
    with pytest.raises(StoreNotUsable, match=f"{root} cannot be a registry"):
        Registry(root)


def test_what_a_driver_raises_names_the_object(url: str) -> None:
    class Down(Driver):
        protocol = "down"

        def cat_file(self, path: str, *_: Any, **__: Any) -> bytes:
            raise RuntimeError("EndpointConnectionError:\n nobody answers")

    Registry(url).add("p", "risk", b"model", CARD)
    with pytest.raises(StoreFailed, match=r"down://.*card.json: EndpointConn.*Error: nobody"):
        Registry(registered(url, "down", Down)).latest("p", "risk")


def test_a_url_of_files_is_a_directory(tmp_path: Any) -> None:
    added = Registry(f"file://{tmp_path}").add("p", "risk", b"model", CARD)
    assert added.location.startswith(f"{tmp_path}/p/@files/")
    assert Registry(tmp_path).latest("p", "risk") == added
