"""Text files as streams of UTF-8: unpacked, and of whichever encoding they are.

What a file begins with says that it is packed by gzip, and which Unicode it is (a byte order
mark). Any other encoding cannot be seen: somebody has to name it, and then only files that are
no UTF-8 are read by it.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

from models.data.errors import NotUtf8, OtherEncoding, UnreadableDataset

BLOCK_BYTES = 1 << 20
UTF8 = "utf-8"
GZIP = b"\x1f\x8b"
_MARKS = {
    # The longer marks first: UTF-32 begins as UTF-16 does.
    BOM_UTF32_LE: "utf-32", BOM_UTF32_BE: "utf-32", BOM_UTF16_LE: "utf-16", BOM_UTF16_BE: "utf-16",
    BOM_UTF8: UTF8,
}  # fmt: skip
_NO_TEXT = {b"PK\x03\x04": "ZIP (or a spreadsheet)", b"PAR1": "Parquet"}


def suffix_of(path: str) -> str:
    """The ending that says what a file holds, in lower case: `.csv` of `rows.csv.gz`.

    >>> suffix_of("a.CSV"), suffix_of("a.csv.gz"), suffix_of("a.gz")
    ('.csv', '.csv', '.gz')
    """
    name = Path(path)
    if name.suffix.lower() == ".gz" and Path(name.stem).suffix:
        name = Path(name.stem)
    return name.suffix.lower()


@contextmanager
def unpacked(path: str) -> Iterator[BufferedIOBase]:
    """The bytes of a file, without what gzip has made of them. Raises UnreadableDataset."""
    try:
        with Path(path).open("rb") as file:
            if not file.peek(len(GZIP)).startswith(GZIP):
                yield file
                return
            with gzip.open(file) as content:
                yield cast("BufferedIOBase", content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableDataset(path, f"its gzip is damaged: {error}") from error


def encoding_of(path: str, declared: str | None) -> str:
    """The encoding by which a text file is read; *declared* is that of files that are not UTF-8.

    Raises OtherEncoding and NotUtf8 for what needs another.
    """
    with unpacked(path) as file:
        beginning = file.read(BLOCK_BYTES)
    for mark, encoding in _MARKS.items():
        if beginning.startswith(mark):
            return encoding
    if declared is not None and (_is_wide(declared) or not is_utf8(path)):
        return declared
    check_is_text(path, beginning)
    return UTF8


def _is_wide(encoding: str) -> bool:
    """Whether each letter of ASCII takes several bytes, so that UTF-8 would not show."""
    return len("a".encode(encoding)) > 1


def is_utf8(path: str) -> bool:
    """Whether all of a file is UTF-8."""
    decoder = codecs.getincrementaldecoder(UTF8)()
    try:
        with unpacked(path) as file:
            while block := file.read(BLOCK_BYTES):
                decoder.decode(block)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def check_is_text(path: str, beginning: bytes) -> None:
    """Raise OtherEncoding for a file that begins like no UTF-8 text, NotUtf8 for its first line."""
    for mark, kind in _NO_TEXT.items():
        if beginning.startswith(mark):
            raise OtherEncoding(path, kind)
    first, end, _ = beginning.partition(b"\n")
    if b"\0" in first:
        raise OtherEncoding(path, "UTF-16")
    try:
        first.decode()
    except UnicodeDecodeError as error:
        if end or error.reason != "unexpected end of data":  # else it goes on behind the block
            raise NotUtf8(path, error, line=1) from error


@contextmanager
def text_stream(path: str, encoding: str) -> Iterator[BufferedIOBase]:
    """The file's text as UTF-8. Raises UnreadableDataset, also while it is read."""
    with unpacked(path) as file:
        if encoding == UTF8:
            yield file
            return
        with BufferedReader(_AsUtf8(path, cast("BinaryIO", file), encoding), BLOCK_BYTES) as stream:
            yield stream


class _AsUtf8(io.RawIOBase):
    """Reads text of another encoding as UTF-8."""

    def __init__(self, path: str, file: BinaryIO, encoding: str) -> None:
        self._path, self._encoding = path, encoding
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer)).cast("B")
        while not self._ready and not self._ended:
            block = self._file.read(BLOCK_BYTES)
            self._ended = not block
            try:
                self._ready = self._decoder.decode(block, final=self._ended).encode()
            except UnicodeError as error:
                reason = f"it is not {self._encoding} ({error}); name another encoding"
                raise UnreadableDataset(self._path, reason) from error
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count
