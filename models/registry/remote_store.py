"""A registry in an object store, by its fsspec URL: s3://bucket/models, gs://…, memory://….

An object is seen whole or not at all, so a card is made visible by one conditional request:
"create, unless it exists" (S3: If-None-Match, Google: ifGenerationMatch). A driver that has no
such request, or a store that ignores it, would let two trainers take one number. It is refused:
before the first version is added, a trial object is created twice, and the second must fail.

How to reach a store is its driver's business: AWS_… and GOOGLE_… variables, FSSPEC_S3_… and
FSSPEC_GS_… for what its file system takes (FSSPEC_S3_ENDPOINT_URL for another S3 than Amazon's).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any
from uuid import uuid4

from models.registry.errors import RegistryError, StoreFailed, StoreNotUsable
from models.registry.store import ASIDE, StoredFile
from topics.errors import MissingExtra

_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")
"""What drivers call the time an object was written."""


class RemoteStore:
    """Objects below an fsspec URL."""

    def __init__(self, url: str) -> None:
        """Opens no connection yet. Raises MissingExtra or StoreNotUsable."""
        self._url = url.rstrip("/")
        self._fs, self._root = _file_system(url)
        self._is_exclusive = False

    def where(self, name: str) -> str:
        """Its URL."""
        return f"{self._url}/{name}"

    def read(self, name: str) -> bytes:
        """An object's bytes; FileNotFoundError when there is none."""
        with self._failing(name, FileNotFoundError):
            return bytes(self._fs.cat_file(self._at(name)))

    def entries(self, folder: str) -> list[str]:
        """Names in *folder*, as they are now."""
        with self._failing(folder), suppress(FileNotFoundError):
            self._fs.invalidate_cache()
            paths = self._fs.ls(self._at(folder), detail=False)
            return [path.rstrip("/").rpartition("/")[2] for path in paths]
        return []

    def put(self, name: str, content: bytes) -> None:
        """Write an object, whatever is there."""
        with self._failing(name):
            self._fs.pipe_file(self._at(name), content)

    def claim(self, folder: str, name: str, content: bytes) -> bool:
        """Create the one object of *folder*, unless it exists."""
        self._check_exclusive(folder.rpartition("/")[0])
        return self._created(f"{folder}/{name}", content)

    def files(self, folder: str) -> Iterator[StoredFile]:
        """All objects in *folder* and below."""
        with self._failing(folder):
            self._fs.invalidate_cache()
            objects = self._fs.find(self._at(folder), detail=True)
            for path, about in sorted(objects.items()):
                name = path.removeprefix(self._root).lstrip("/")
                yield StoredFile(name, int(about["size"] or 0), _written_at(about))

    def remove(self, name: str) -> None:
        """Remove an object, or all below a folder."""
        with self._failing(name), suppress(FileNotFoundError):
            self._fs.rm(self._at(name), recursive=True)

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _created(self, name: str, content: bytes) -> bool:
        with self._failing(name):
            try:
                self._fs.pipe_file(self._at(name), content, mode="create")
            except FileExistsError:
                return False
            return True

    def _check_exclusive(self, folder: str) -> None:
        """Raise StoreNotUsable unless the store refuses to create an object a second time."""
        if self._is_exclusive:
            return
        if _only_looks_first(self._fs):
            raise StoreNotUsable(
                self._url,
                f"{type(self._fs).__name__} cannot create an object only if it does not exist, so "
                "two trainers could take one version number; s3:// and gs:// can",
            )
        trial = f"{folder}/{ASIDE}{uuid4().hex}"
        try:
            first, second = self._created(trial, b"1"), self._created(trial, b"2")
        finally:
            self.remove(trial)
        if (first, second) != (True, False):
            raise StoreNotUsable(
                self._url,
                "the store ignores the condition that an object must not exist yet "
                "(If-None-Match), so two trainers could take one version number",
            )
        self._is_exclusive = True

    @contextmanager
    def _failing(self, name: str, *but: type[OSError]) -> Iterator[None]:
        try:
            yield
        except RegistryError:
            raise
        except but:
            raise
        except Exception as exc:  # each driver has errors of its own
            raise StoreFailed(self.where(name), exc) from exc


def _file_system(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as exc:
        raise MissingExtra(f"a registry at {url}", "remote") from exc
    try:
        fs, root = url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as exc:  # no driver, or none that is known
        raise StoreNotUsable(url, str(exc)) from exc
    return fs, root.rstrip("/")


def _only_looks_first(fs: Any) -> bool:
    """Whether the driver has just fsspec's own `pipe_file`, which looks and then writes."""
    from fsspec import AbstractFileSystem

    return type(fs).pipe_file is AbstractFileSystem.pipe_file and not fs.async_impl


def _written_at(about: Any) -> float:
    """When an object was written; now, if its driver does not say."""
    written_at = next((about[name] for name in _TIMES if about.get(name)), None)
    if isinstance(written_at, str):
        written_at = datetime.fromisoformat(written_at)
    if isinstance(written_at, datetime):
        return written_at.timestamp()
    return float(written_at) if written_at is not None else time.time()
