"""Where a registry's files are: a directory here, or any fsspec URL (`remote_store`)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from models.registry.errors import StoreFailed
from topics.file_content import read_file

MOST_BYTES = 1 << 30
"""A larger file is none that a registry has written."""
ASIDE = ".new-"
"""How names of things begin that are being written, or were when their writer was killed."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the store."""

    name: str
    size: int
    """Bytes."""
    written_at: float
    """Seconds since 1970."""


class Store(Protocol):
    """Files by names like `pipeline/component/3/card.json`.

    Every method raises StoreFailed for what the disk or the network refuses.
    """

    def where(self, name: str) -> str:
        """The path or URL of *name*, for people."""

    def read(self, name: str) -> bytes:
        """A file's bytes; FileNotFoundError when there is none."""

    def entries(self, folder: str) -> list[str]:
        """Names of the files and folders in *folder*; none when it does not exist."""

    def put(self, name: str, content: bytes) -> None:
        """Write a file: whole or not at all, also over one that is there."""

    def claim(self, folder: str, name: str, content: bytes) -> bool:
        """Make *folder* with one file, seen whole or not at all; False when it is there already.

        Of any number of processes that claim a folder at once, one gets True.
        """

    def files(self, folder: str) -> Iterator[StoredFile]:
        """All files in *folder* and below, by their whole names."""

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it; nothing when it is not there."""


class LocalStore:
    """A directory. What is written is on the disk before it has its name."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def where(self, name: str) -> str:
        """Its path."""
        return str(self._root / name)

    def read(self, name: str) -> bytes:
        """A file's bytes; FileNotFoundError when there is none."""
        path = self._root / name
        with _failing(path, FileNotFoundError):
            return read_file(path, MOST_BYTES)

    def entries(self, folder: str) -> list[str]:
        """Names in *folder*; none when it does not exist."""
        path = self._root / folder
        with _failing(path):
            return os.listdir(path) if path.is_dir() else []  # noqa: PTH208  # names are wanted

    def put(self, name: str, content: bytes) -> None:
        """Write aside, then rename over whatever is there."""
        path = self._root / name
        aside = path.with_name(f"{ASIDE}{uuid4().hex}")
        with _failing(path):
            _make(path.parent)
            try:
                _write(aside, content)
                aside.rename(path)
                _sync(path.parent)
            finally:
                aside.unlink(missing_ok=True)

    def claim(self, folder: str, name: str, content: bytes) -> bool:
        """Make the folder aside, then rename it: only one process can rename to a name."""
        path = self._root / folder
        # Not mkdtemp: only its owner could read the version, not a worker of another user.
        aside = path.with_name(f"{ASIDE}{uuid4().hex}")
        with _failing(path):
            _make(path.parent)
            try:
                aside.mkdir()
                _write(aside / name, content)
                _sync(aside)
                return _renamed(aside, path)
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def files(self, folder: str) -> Iterator[StoredFile]:
        """All files in *folder* and below."""
        path = self._root / folder
        with _failing(path):
            for entry in sorted(path.rglob("*")):
                with suppress(FileNotFoundError):  # another process has removed it
                    if not entry.is_dir():
                        about, name = entry.stat(), entry.relative_to(self._root).as_posix()
                        yield StoredFile(name, about.st_size, about.st_mtime)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder: that is renamed first, so nobody sees half of it."""
        path = self._root / name
        with _failing(path), suppress(FileNotFoundError):
            if path.is_dir():
                aside = path.with_name(f"{ASIDE}{uuid4().hex}")
                path.rename(aside)
                shutil.rmtree(aside)
            else:
                path.unlink()
            _sync(path.parent)


@contextmanager
def _failing(path: Path, *but: type[OSError]) -> Iterator[None]:
    try:
        yield
    except but:
        raise
    except OSError as exc:
        raise StoreFailed(str(path), exc) from exc


def _make(folder: Path) -> None:
    """Make a folder and those above it, each with its name on the disk."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _renamed(aside: Path, path: Path) -> bool:
    try:
        aside.rename(path)
    except OSError:
        if not path.exists():
            raise
        return False  # another process took that number
    _sync(path.parent)
    return True


def _sync(folder: Path) -> None:
    """Put the folder's names on the disk; fsync of a file does not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
