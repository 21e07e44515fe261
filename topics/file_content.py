"""Reading a file that a person named: the whole of it, in bounded time and memory.

A path may lead to anything. Opening a FIFO waits for a writer that may never come, a device such as
/dev/zero has no end, and a file may be larger than memory. Here all of these are an OSError, which
whoever reads files has to expect anyway.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip
_READ_AT_ONCE = 1 << 20


class NotAFile(OSError):
    """The path leads to something that is no file with an end."""

    def __init__(self, path: Path | str, kind: str) -> None:
        super().__init__(errno.EINVAL, f"it is {kind}, not a file", str(path))


class FileTooLarge(OSError):
    """The file has more bytes than such a file may have."""

    def __init__(self, path: Path | str, most: int) -> None:
        limit = f"{most >> 20:,} MiB" if most >= 1 << 20 else f"{most:,} bytes"
        super().__init__(errno.EFBIG, f"it has more than {limit}", str(path))


def read_file(path: Path | str, most: int) -> bytes:
    """The bytes of a file of at most *most*. Raises OSError, so also NotAFile and FileTooLarge."""
    with _opened(path) as handle:
        if os.fstat(handle).st_size > most:
            raise FileTooLarge(path, most)
        content = bytearray()
        # The size says little: files of /proc have none, and one may grow while it is read.
        while block := os.read(handle, min(_READ_AT_ONCE, most + 1 - len(content))):
            content += block
            if len(content) > most:
                raise FileTooLarge(path, most)
        return bytes(content)


def check_file(path: Path | str) -> None:
    """Raise OSError, so also NotAFile, unless *path* is a file that can be opened to read."""
    with _opened(path):
        pass


@contextmanager
def _opened(path: Path | str) -> Iterator[int]:
    # Before it is opened: opening a device may already do something.
    _check_kind(path, Path(path).stat().st_mode)
    # Without waiting: a FIFO that has come meanwhile would not be open before it had a writer.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        _check_kind(path, os.fstat(handle).st_mode)
        yield handle
    finally:
        os.close(handle)


def _check_kind(path: Path | str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotAFile(path, next((kind for of, kind in _KINDS if of(mode)), "no plain file"))
