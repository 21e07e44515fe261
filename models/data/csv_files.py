"""CSV files of others: how one is written, and its rows as whole columns of text.

`read_csv` reads by a `CsvFormat`, the same for `init`, `train` and `publish`; `guess_format` says
which a file needs.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from typing import Any

from models.data.columns import FALSE_TEXTS, TRUE_TEXTS
from models.data.text_files import (
    BLOCK_BYTES,
    UTF8,
    encoding_of,
    is_utf8,
    suffix_of,
    text_stream,
    unpacked,
)
from topics.pipeline import CsvFormat

Batches = Callable[[Mapping[str, str | None]], Iterator[Mapping[str, Any]]]
"""Column → event field type, or None where that is to be inferred; Arrow arrays by column."""

_BLOCK = 8 << 20
"""Bytes that a row may have at most; about what is in memory at a time."""
_SEPARATORS = ",;\t|"
_SAMPLED_CHARACTERS = 256 << 10
_LATIN = ("windows-1252", "iso-8859-1")
"""The first where each of its bytes is a character, else the second, where all are."""


@contextmanager
def read_csv(path: str, form: CsvFormat) -> Iterator[tuple[list[str], Batches]]:
    """The columns' names, each once, and what reads them in blocks, as text where a type is named.

    Rows that have nothing in any of the columns are left out. Raises DatasetError, and what
    pyarrow raises.
    """
    from pyarrow import csv as arrow_csv

    encoding = encoding_of(path, form.encoding)
    separator, lines_before = _separator(path, encoding, form)
    parsing = arrow_csv.ParseOptions(
        delimiter=separator, newlines_in_values=True, escape_char=form.escape or False
    )

    def opened(stream: BufferedIOBase, convert: Any = None, names: Sequence[str] = ()) -> Any:
        reading = arrow_csv.ReadOptions(
            block_size=_BLOCK, skip_rows=lines_before, column_names=list(names) or None,
            skip_rows_after_names=1 if names else 0,
        )  # fmt: skip
        return arrow_csv.open_csv(
            stream, read_options=reading, parse_options=parsing, convert_options=convert
        )

    with text_stream(path, encoding) as stream, opened(stream) as header:
        names = unique_names(header.schema.names)

    def batches(wanted: Mapping[str, str | None]) -> Iterator[Mapping[str, Any]]:
        import pyarrow as pa

        # Without a declared type, pyarrow guesses from the first block: "007" would become 7.
        convert = arrow_csv.ConvertOptions(
            include_columns=list(wanted),
            column_types={name: pa.string() for name, kind in wanted.items() if kind},
            null_values=[""], strings_can_be_null=True,
            true_values=TRUE_TEXTS, false_values=FALSE_TEXTS,
        )  # fmt: skip
        with text_stream(path, encoding) as stream, opened(stream, convert, names) as reader:
            for block in reader:
                yield _without_blank_rows({n: block.column(n) for n in wanted})

    yield names, batches


def _without_blank_rows(columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """The columns without the rows in which none has a value: how spreadsheets end files."""
    from pyarrow import compute

    arrays = list(columns.values())
    if not arrays or any(not array.null_count for array in arrays):
        return columns
    there = arrays[0].is_valid()
    for array in arrays[1:]:
        there = compute.or_(there, array.is_valid())
    return {name: array.filter(there) for name, array in columns.items()}


def _separator(path: str, encoding: str, form: CsvFormat) -> tuple[str, int]:
    """What stands between columns, and how many lines come before the header."""
    with text_stream(path, encoding) as stream:
        first = stream.readline(16).decode(errors="replace").lstrip("\ufeff").strip("\r\n")
    if len(first) == len("sep=;") and first.casefold().startswith("sep="):
        return first[-1], 1
    return form.separator or ("\t" if suffix_of(path) == ".tsv" else ","), 0


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, a repeated one with a number behind it.

    >>> unique_names(["x", "y", "x", "x_2", "x"])
    ['x', 'y', 'x_3', 'x_2', 'x_4']
    """
    taken, unique = set(names), list[str]()
    seen: set[str] = set()
    for name in names:
        new, number = name, 2
        while new in seen or (new != name and new in taken):
            new, number = f"{name}_{number}", number + 1
        seen.add(new)
        unique.append(new)
    return unique


def guess_format(path: str, encoding: str | None = None) -> tuple[CsvFormat, list[str]]:
    """The format that a CSV file needs, and what in it is a guess, as sentences.

    *encoding* is what somebody says it is. Raises DatasetError.
    """
    remarks: list[str] = []
    needed = encoding
    with unpacked(path) as file:
        beginning = file.read(BLOCK_BYTES)
    if encoding is None and not beginning.startswith((b"\xff\xfe", b"\xfe\xff", b"PK", b"PAR1")):
        needed = _wide(beginning)
        if needed is None and not is_utf8(path):
            needed = _latin(path)
            remarks.append(
                f"it is not UTF-8: read as {needed}, which is a guess; --encoding NAME for another"
            )
    written_in = encoding_of(path, needed)
    separator, _ = _separator(path, written_in, CsvFormat())
    with text_stream(path, written_in) as stream:
        text = stream.read(_SAMPLED_CHARACTERS).decode(errors="replace").lstrip("\ufeff")
    lines = text.splitlines(keepends=True)
    cut = len(text) >= _SAMPLED_CHARACTERS
    states = lines[0].casefold().startswith("sep=") if lines else False
    rows = lines[1:] if states else lines
    sample = "".join(rows[:-1] if cut else rows)
    others = [separator] if states else [separator, *_SEPARATORS.replace(separator, "")]
    best, escape = max(
        ((each, escape) for each in others for escape in (None, "\\")),
        key=lambda form: _regularity(sample, *form),
    )
    needs = CsvFormat(
        encoding=needed if written_in != UTF8 else None,
        separator=None if best == separator else best,
        escape="\\" if escape else None,
    )
    return needs, remarks


def _regularity(sample: str, separator: str, escape: str | None) -> tuple[float, int, bool]:
    """How well the text reads so: the share of rows as wide as the header, columns, plainness."""
    reader = csv.reader(
        sample.splitlines(keepends=True), delimiter=separator, escapechar=escape,
        doublequote=escape is None,
    )  # fmt: skip
    try:
        widths = [len(row) for row in reader if row]
    except csv.Error:
        return 0.0, 0, escape is None
    if not widths or widths[0] == 1:
        return 0.0, 1, escape is None
    same = sum(width == widths[0] for width in widths) / len(widths)
    return round(same, 3), widths[0], escape is None


def _wide(beginning: bytes) -> str | None:
    """UTF-16 without a byte order mark, by where the NULs are of what is mostly ASCII."""
    some = beginning[:4096]
    if len(some) < 4 or len(some) % 2:
        some = some[: len(some) // 2 * 2]
    even, odd = some[::2].count(0), some[1::2].count(0)
    most = 0.4 * len(some) / 2
    if odd > most and not even:
        return "utf-16-le"
    return "utf-16-be" if even > most and not odd else None


def _latin(path: str) -> str:
    with unpacked(path) as file:
        while block := file.read(BLOCK_BYTES):
            try:
                block.decode(_LATIN[0])
            except UnicodeDecodeError:
                return _LATIN[1]
    return _LATIN[0]


def is_csv(path: str) -> bool:
    """Whether a file's name says that it is CSV, so has no types."""
    return suffix_of(path) in (".csv", ".tsv")


def without_texts(array: Any, missing: Collection[str]) -> Any:
    """An Arrow array of text with null where the text is one of *missing*."""
    import pyarrow as pa
    from pyarrow import compute

    if not missing or not pa.types.is_string(array.type):
        return array
    gone = compute.is_in(array, value_set=pa.array(list(missing), pa.string()))
    return compute.if_else(gone, pa.scalar(None, pa.string()), array)
