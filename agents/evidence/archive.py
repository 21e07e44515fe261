"""An evidence pack as a file: a ZIP archive of which there is one form, so that any change shows.

Entries are stored, not compressed, one behind the other from the first byte on: `manifest.json`,
then the others by name; each with the date 1980-01-01, and nothing that ZIP allows beyond that. So
what is outside of the entries follows from them, and is compared byte by byte. Archives like that
cannot hold two entries of one name, or more bytes than the file has.

ZIP as in APPNOTE.TXT 6.3.10, 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (its end).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

from agents.evidence.errors import PackDamaged, PackTooLarge
from topics.file_content import check_file

FIRST = "manifest.json"
MOST_BYTES = 2**31 - 1
"""Of a whole pack."""
MOST_ENTRIES = 10_000
_NAME = re.compile(r"(?!.*(^|/)\.{1,2}(/|$))[A-Za-z0-9@._-]+(/[A-Za-z0-9@._-]+)*", re.ASCII)
_LONGEST_NAME = 600

_LOCAL, _CENTRAL, _END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_LOCAL_FORM = struct.Struct("<4s5H3I2H")
_CENTRAL_FORM = struct.Struct("<4s6H3I5H2I")
_END_FORM = struct.Struct("<4s4H2IH")
_NEEDED, _MADE_BY = 20, 0x0314
"""ZIP 2.0; on Unix, which is where the mode of a file is kept."""
_DATE = 0x21
_MODE = 0o100644 << 16
_BLOCK = 2**20


class _Entry(NamedTuple):
    name: str
    at: int
    """Where its local header is."""
    start: int
    """Where its content is."""
    size: int
    crc: int


def write_archive(path: Path, entries: Mapping[str, bytes]) -> str:
    """Write *entries*, `manifest.json` among them; the SHA-256 of the file. Raises PackTooLarge."""
    names = sorted(entries, key=_order)
    if sum(map(len, entries.values())) > MOST_BYTES or len(names) > MOST_ENTRIES:
        raise PackTooLarge(path, MOST_BYTES, MOST_ENTRIES)
    digest, at, headers = sha256(), 0, list[_Entry]()
    with path.open("wb") as file:
        for name in names:
            if not _is_name(name):
                raise ValueError(f"no entry can be called {name!r}")
            content = entries[name]
            entry = _Entry(name, at, 0, len(content), zlib.crc32(content))
            headers.append(entry)
            for part in (_local(entry), content):
                file.write(part)
                digest.update(part)
                at += len(part)
        file.write(tail := _tail(headers, at))
        digest.update(tail)
    return digest.hexdigest()


class Archive:
    """An archive whose form has been checked, but for what its entries hold."""

    def __init__(self, file: BinaryIO, path: Path, entries: list[_Entry]) -> None:
        self._file, self._path = file, path
        self._entries = {entry.name: entry for entry in entries}

    @property
    def names(self) -> list[str]:
        """The entries, as they stand."""
        return [*self._entries]

    def size(self, name: str) -> int:
        """Bytes of an entry."""
        return self._entries[name].size

    def read(self, name: str) -> bytes:
        """An entry's content; KeyError where there is none."""
        entry = self._entries[name]
        self._file.seek(entry.start)
        return self._file.read(entry.size)

    def digest(self, name: str) -> str:
        """The SHA-256 of an entry, read a block at a time. Raises PackDamaged by its CRC."""
        entry = self._entries[name]
        digest, crc = sha256(), 0
        for block in _blocks(self._file, entry.start, entry.size):
            digest.update(block)
            crc = zlib.crc32(block, crc)
        if crc != entry.crc:
            raise PackDamaged(self._path, f"{name} was changed: its CRC is another one")
        return digest.hexdigest()


@contextmanager
def opened_archive(path: Path) -> Iterator[Archive]:
    """The archive at *path*. Raises OSError, and PackDamaged for what is none of ours."""
    check_file(path)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size > MOST_BYTES:
            raise PackDamaged(path, f"it has {size:,} bytes, and a pack has no more than 2 GiB")
        yield Archive(file, path, _entries(file, path, size))


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, read a block at a time. Raises OSError."""
    check_file(path)
    digest = sha256()
    with path.open("rb") as file:
        for block in _blocks(file, 0, file.seek(0, 2)):
            digest.update(block)
    return digest.hexdigest()


def _entries(file: BinaryIO, path: Path, size: int) -> list[_Entry]:
    """What the file begins with; then its end has to be the one that belongs to that."""
    entries, at = list[_Entry](), 0
    while (entry := _entry_at(file, path, at, size)) is not None:
        entries.append(entry)
        at = entry.start + entry.size
        if len(entries) > MOST_ENTRIES:
            raise PackDamaged(path, f"it has more than {MOST_ENTRIES:,} entries")
    if not entries or entries[0].name != FIRST:
        raise PackDamaged(path, f"it does not begin with {FIRST}: it is no evidence pack")
    for one, other in pairwise(entries):
        if _order(one.name) >= _order(other.name):
            raise PackDamaged(path, f"{other.name} stands behind {one.name}, twice or out of order")
    tail = _tail(entries, at)
    file.seek(at)
    if size - at != len(tail) or file.read(len(tail)) != tail:
        raise PackDamaged(path, f"its directory, from byte {at:,} on, is not that of its entries")
    return entries


def _entry_at(file: BinaryIO, path: Path, at: int, size: int) -> _Entry | None:
    """The entry whose header is at byte *at*; None where the directory begins."""
    file.seek(at)
    header = file.read(_LOCAL_FORM.size)
    if header[:4] == _CENTRAL:
        return None
    if len(header) < _LOCAL_FORM.size or header[:4] != _LOCAL:
        raise PackDamaged(path, f"no entry is at byte {at:,}: it is cut off, changed, or no ZIP")
    _, _, _, method, _, _, crc, packed, content, length, extra = _LOCAL_FORM.unpack(header)
    text = file.read(min(length, _LONGEST_NAME + 1))
    start = at + _LOCAL_FORM.size + length + extra
    name = text.decode(errors="backslashreplace")
    if len(text) > _LONGEST_NAME or not _is_name(name):
        raise PackDamaged(path, f"the entry at byte {at:,} has a name that no pack has: {name!r}")
    if method:
        raise PackDamaged(path, f"{name} is compressed: entries of a pack never are")
    entry = _Entry(name, at, start, content, crc)
    if header + text != _local(entry):
        raise PackDamaged(path, f"the header of {name}, at byte {at:,}, is none that packs have")
    if packed != content or start + content > size:
        raise PackDamaged(path, f"{name} is cut off")
    return entry


def _order(name: str) -> tuple[bool, str]:
    return name != FIRST, name


def _is_name(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and _NAME.fullmatch(name) is not None


def _blocks(file: BinaryIO, start: int, size: int) -> Iterator[bytes]:
    file.seek(start)
    while size > 0 and (block := file.read(min(_BLOCK, size))):
        size -= len(block)
        yield block


def _local(entry: _Entry) -> bytes:
    name = entry.name.encode()
    header = _LOCAL_FORM.pack(
        _LOCAL, _NEEDED, 0, 0, 0, _DATE, entry.crc, entry.size, entry.size, len(name), 0
    )
    return header + name


def _tail(entries: list[_Entry], at: int) -> bytes:
    """The directory of *entries*, which begins at byte *at*, and its end."""
    directory = b"".join(
        _CENTRAL_FORM.pack(
            _CENTRAL, _MADE_BY, _NEEDED, 0, 0, 0, _DATE, entry.crc, entry.size, entry.size,
            len(entry.name), 0, 0, 0, 0, _MODE, entry.at,
        ) + entry.name.encode()
        for entry in entries
    )  # fmt: skip
    count = len(entries)
    return directory + _END_FORM.pack(_END, 0, 0, count, count, len(directory), at, 0)
