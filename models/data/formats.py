"""The file formats of data sets: each opens as its column names and a stream of batches.

pyarrow, which reads Parquet and CSV files, comes with the extra `data`; its objects are `Any` here
because it has no types.
"""

from __future__ import annotations

import sys
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson

from models.data.columns import FALSE_TEXTS, TRUE_TEXTS, Column, typed, without
from models.data.errors import (
    TO_UTF8,
    DatasetNotFound,
    NotUtf8,
    OtherEncoding,
    UnknownFormat,
    UnreadableDataset,
)
from models.data.frames import FrameTable
from topics.errors import MissingExtra
from topics.file_content import NotAFile, check_file

STDIN = "-"
BLOCK_BYTES = 1 << 20
_OTHERS = {
    # The longer marks first: UTF-32 begins as UTF-16 does.
    BOM_UTF32_LE: "UTF-32", BOM_UTF32_BE: "UTF-32", BOM_UTF16_LE: "UTF-16", BOM_UTF16_BE: "UTF-16",
    b"\x1f\x8b": "gzip", b"PK\x03\x04": "ZIP (or a spreadsheet)", b"PAR1": "Parquet",
}  # fmt: skip
"""How files begin that are no UTF-8 text."""
MOST_LINE_BYTES = 64 << 20
"""A longer line is no event; without a bound a stream without line ends would fill the memory."""

Columns = dict[str, Column]


@dataclass(frozen=True, slots=True)
class DataFile:
    """An opened data file."""

    names: list[str]
    """Its columns. JSON lines: every key of the first batch."""
    may_have_more: bool
    """Whether later batches may have columns that `names` lacks."""
    batches: Callable[[Mapping[str, str | None]], Iterator[Columns]]
    """Reads the given columns (name → event field type, or None) batch by batch."""


def open_data_file(
    path: str | FrameTable, batch_rows: int, missing: Collection[str] = ()
) -> AbstractContextManager[DataFile]:
    """Open FILE.parquet, FILE.csv, FILE.jsonl, `-` for JSON lines on standard input, or a frame.

    `missing` is text that stands for no value; in a CSV file an empty cell always does.
    Raises DatasetNotFound, UnknownFormat, UnreadableDataset; MissingExtra without pyarrow.
    """
    if isinstance(path, FrameTable):
        return open_frame(path, batch_rows, missing)
    if path == STDIN:
        return nullcontext(
            _json_lines(
                cast("BufferedIOBase", sys.stdin.buffer), "standard input", batch_rows, missing
            )
        )
    formats = {".parquet": open_parquet, ".csv": open_csv, ".jsonl": open_json_lines}
    opener = formats.get(Path(path).suffix.lower())
    if opener is None:
        raise UnknownFormat(path, formats)
    check_dataset(path)
    return opener(path, batch_rows, missing)


def check_dataset(path: str) -> None:
    """Raise DatasetNotFound or UnreadableDataset unless *path* is a file that can be read."""
    try:
        check_file(path)
    except FileNotFoundError as error:
        raise DatasetNotFound(path) from error
    except OSError as error:
        hint = "; rows of a stream are read as JSON lines from -" * isinstance(error, NotAFile)
        raise UnreadableDataset(path, f"{error.strerror}{hint}") from error


@contextmanager
def open_parquet(path: str, batch_rows: int, missing: Collection[str] = ()) -> Iterator[DataFile]:
    """Open a Parquet file; it is read by row group, never whole."""
    with arrow_errors(path):
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path) as file:

            def batches(wanted: Mapping[str, str | None]) -> Iterator[Columns]:
                for batch in file.iter_batches(batch_rows, columns=list(wanted)):
                    yield {
                        n: _arrow_column(batch.column(n), kind, missing)
                        for n, kind in wanted.items()
                    }

            yield DataFile(list(file.schema_arrow.names), may_have_more=False, batches=batches)


@contextmanager
def open_frame(
    frame: FrameTable, batch_rows: int, missing: Collection[str] = ()
) -> Iterator[DataFile]:
    """Open a frame, which is in memory."""
    with arrow_errors(str(frame)):

        def batches(wanted: Mapping[str, str | None]) -> Iterator[Columns]:
            for batch in frame.table.select(list(wanted)).to_batches(batch_rows):
                yield {
                    n: _arrow_column(batch.column(n), kind, missing) for n, kind in wanted.items()
                }

        yield DataFile(list(frame.table.column_names), may_have_more=False, batches=batches)


@contextmanager
def open_csv(path: str, batch_rows: int, missing: Collection[str] = ()) -> Iterator[DataFile]:
    """Open a CSV file with a header. An empty cell is a missing value."""
    with arrow_errors(path):
        with Path(path).open("rb") as file:
            check_is_text(path, file.read(BLOCK_BYTES))
        import pyarrow as pa
        from pyarrow import csv

        # Without a declared type, pyarrow guesses from the first block: "007" would become 7.
        # Timestamps are read as text, because a column may mix precisions.
        declared = {"number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_()}

        def batches(wanted: Mapping[str, str | None]) -> Iterator[Columns]:
            options = csv.ConvertOptions(
                include_columns=list(wanted),
                column_types={n: declared.get(k, pa.string()) for n, k in wanted.items() if k},
                null_values=["", *missing],
                true_values=TRUE_TEXTS,
                false_values=FALSE_TEXTS,
                strings_can_be_null=True,
            )
            with csv.open_csv(path, convert_options=options) as reader:
                for block in reader:
                    for first in range(0, len(block), batch_rows):
                        part = block.slice(first, batch_rows)
                        yield {n: _arrow_column(part.column(n), kind) for n, kind in wanted.items()}

        with csv.open_csv(path) as header:
            names = list(header.schema.names)
        yield DataFile(names, may_have_more=False, batches=batches)


@contextmanager
def open_json_lines(
    path: str, batch_rows: int, missing: Collection[str] = ()
) -> Iterator[DataFile]:
    """Open a file of JSON objects, one a line; blank lines are skipped."""
    try:
        with Path(path).open("rb") as stream:
            check_is_text(path, stream.read(BLOCK_BYTES))
            stream.seek(0)
            yield _json_lines(stream, path, batch_rows, missing)
    except OSError as error:
        raise UnreadableDataset(path, error.strerror or str(error)) from error


@contextmanager
def arrow_errors(path: str) -> Iterator[None]:
    """Turn what pyarrow raises about *path* into errors of this project."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtra(f"reading {path}", "data") from error
    try:
        yield
    except UnicodeDecodeError as error:
        raise NotUtf8(path, error) from error
    except (pa.ArrowException, OSError) as error:
        # What a CSV file holds behind its first line, pyarrow reads: it has no words for a remedy.
        remedy = f"; {TO_UTF8}" * ("invalid UTF8" in str(error))
        raise UnreadableDataset(path, f"{error}{remedy}") from error


def check_is_text(path: str, beginning: bytes) -> None:
    """Raise OtherEncoding for a file that begins like no UTF-8 text, NotUtf8 for its first line."""
    for mark, encoding in _OTHERS.items():
        if beginning.startswith(mark):
            raise OtherEncoding(path, encoding)
    first, end, _ = beginning.partition(b"\n")
    if b"\0" in first:
        raise OtherEncoding(path, "UTF-16")
    try:
        first.decode()
    except UnicodeDecodeError as error:
        if end or error.reason != "unexpected end of data":  # else it goes on behind the block
            raise NotUtf8(path, error, line=1) from error


def _json_lines(
    stream: BufferedIOBase, name: str, batch_rows: int, missing: Collection[str]
) -> DataFile:
    rows = _json_rows(stream, name, batch_rows)
    first = next(rows, [])
    if not first:
        raise UnreadableDataset(name, "it is empty")
    names = list(dict.fromkeys(key for row in first for key in row))

    def batches(wanted: Mapping[str, str | None]) -> Iterator[Columns]:
        batch = first
        while batch:
            yield {
                n: typed(without([row.get(n) for row in batch], missing), kind)
                for n, kind in wanted.items()
            }
            batch = next(rows, [])

    return DataFile(names, may_have_more=True, batches=batches)


def _json_rows(
    stream: BufferedIOBase, name: str, batch_rows: int
) -> Iterator[list[dict[str, Any]]]:
    """Yield the objects of the lines that have arrived, at most *batch_rows* at a time.

    A pipe that trickles gives small batches at once instead of one full batch late.
    """
    number, begun = 0, bytearray()
    at_end, at_start = False, True
    while not at_end:
        block = stream.read1(BLOCK_BYTES)
        at_end = not block
        if at_start:
            block, at_start = block.removeprefix(BOM_UTF8), False
        *lines, rest = block.split(b"\n")
        if lines or at_end:
            lines[:1] = [bytes(begun) + first for first in lines[:1] or [rest]]
            begun.clear()
        begun += rest
        if len(begun) > MOST_LINE_BYTES:
            reason = f"a line has more than {MOST_LINE_BYTES >> 20} MiB"
            raise UnreadableDataset(name, reason, line=number + len(lines) + 1)
        for first in range(0, len(lines), batch_rows):
            some = lines[first : first + batch_rows]
            rows = [_json_object(s, name, n) for n, s in enumerate(some, number + 1) if s.strip()]
            number += len(some)
            if rows:
                yield rows


def _json_object(line: bytes, name: str, number: int) -> dict[str, Any]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            line.decode()
        except UnicodeDecodeError as wrong:
            raise NotUtf8(name, wrong, line=number) from error
        raise UnreadableDataset(name, f"{error.msg}, column {error.colno}", line=number) from error
    if not isinstance(value, dict):
        reason = f"a JSON object is needed, this is a {type(value).__name__}"
        raise UnreadableDataset(name, reason, line=number)
    return value


def _arrow_column(array: Any, kind: str | None, missing: Collection[str] = ()) -> Column:
    """A pyarrow array as a column of the given event field type; see `columns.typed`.

    `missing` is text that stands for no value.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if missing and (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        array = pa.array(without(array.to_pylist(), missing), pa.string())
    if kind is not None:
        array = _cast(array, kind)
    if pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
        # Arrow keeps zoned times as UTC; naive ones are UTC by our contract.
        array = array.cast(pa.timestamp("us"), safe=False)
    elif kind == "boolean" or pa.types.is_nested(array.type) or not _fits_numpy(array):
        return typed(array.to_pylist(), kind)
    column: np.ndarray[Any, np.dtype[Any]] = array.to_numpy(zero_copy_only=False)
    return column


def _fits_numpy(array: Any) -> bool:
    """Whether numpy holds the array without boxing or inventing values."""
    import pyarrow as pa

    if pa.types.is_floating(array.type):
        return True
    plain = pa.types.is_integer(array.type) or pa.types.is_boolean(array.type)
    return bool(plain and array.null_count == 0)


def _cast(array: Any, kind: str) -> Any:
    """The array in the Arrow type of *kind*, or unchanged when its values do not all fit."""
    import pyarrow as pa

    if kind == "string" and pa.types.is_floating(array.type):
        # Identifiers that a tool made floating because some were missing: 596.0 is "596".
        array = _cast(array, "integer")
    targets = {"string": pa.string(), "integer": pa.int64(), "number": pa.float64()}
    if kind not in targets or pa.types.is_nested(array.type) or pa.types.is_temporal(array.type):
        return array
    try:
        return array.cast(targets[kind])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return array
