"""The file formats of data sets: each opens as its column names and a stream of batches.

pyarrow, which reads Parquet and CSV files, comes with the extra `data`; its objects are `Any` here
because it has no types.
"""

from __future__ import annotations

import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any, cast

import numpy as np
import orjson

from models.data.columns import Column, typed, without
from models.data.csv_files import is_csv, read_csv, unique_names, without_texts
from models.data.errors import TO_UTF8, DatasetNotFound, NotUtf8, UnknownFormat, UnreadableDataset
from models.data.frames import FrameTable
from models.data.number_formats import PLAIN, numbers_in
from models.data.text_files import BLOCK_BYTES, encoding_of, suffix_of, text_stream
from topics.errors import MissingExtra
from topics.file_content import NotAFile, check_file
from topics.pipeline import CsvFormat

STDIN = "-"
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
    path: str | FrameTable, batch_rows: int, missing: Collection[str] = (),
    csv: CsvFormat | None = None,
) -> AbstractContextManager[DataFile]:  # fmt: skip
    """Open FILE.parquet, .csv, .tsv, .jsonl, `-` for JSON lines on standard input, or a frame.

    Text may be packed, as FILE.csv.gz. `missing` is text that stands for no value; in a CSV file,
    which is written as *csv* says, an empty cell always does.
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
    if is_csv(path):
        check_dataset(path)
        return open_csv(path, batch_rows, missing, csv or CsvFormat())
    formats = {".parquet": open_parquet, ".jsonl": open_json_lines}
    opener = formats.get(suffix_of(path))
    if opener is None:
        raise UnknownFormat(path, (".csv", ".tsv", *formats))
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
            own = list(file.schema_arrow.names)
            names = unique_names(own)
            repeats = len(set(own)) < len(own)  # then columns are told apart by their place alone

            def batches(wanted: Mapping[str, str | None]) -> Iterator[Columns]:
                columns = None if repeats else list(wanted)
                for batch in file.iter_batches(batch_rows, columns=columns):
                    at = {n: names.index(n) if repeats else n for n in wanted}
                    yield {
                        n: _arrow_column(batch.column(at[n]), kind, missing)
                        for n, kind in wanted.items()
                    }

            yield DataFile(names, may_have_more=False, batches=batches)


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
def open_csv(
    path: str, batch_rows: int, missing: Collection[str], form: CsvFormat
) -> Iterator[DataFile]:
    """Open a CSV file with a header. An empty cell is a missing value."""
    with arrow_errors(path), read_csv(path, form) as (names, blocks):

        def batches(wanted: Mapping[str, str | None]) -> Iterator[Columns]:
            for block in blocks(wanted):
                rows = len(next(iter(block.values()), ()))
                for first in range(0, rows, batch_rows):
                    yield {
                        n: _csv_column(column.slice(first, batch_rows), kind, missing)
                        for (n, column), kind in zip(block.items(), wanted.values(), strict=True)
                    }  # fmt: skip

        yield DataFile(names, may_have_more=False, batches=batches)


@contextmanager
def open_json_lines(
    path: str, batch_rows: int, missing: Collection[str] = ()
) -> Iterator[DataFile]:
    """Open a file of JSON objects, one a line; blank lines are skipped."""
    try:
        with text_stream(path, encoding_of(path, None)) as stream:
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
    if pa.types.is_decimal(array.type):
        array = _of_decimals(array, kind)
        if pa.types.is_decimal(array.type):
            return [None if value is None else int(value) for value in array.to_pylist()]
    elif pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        array = _cast(array, "string")  # text, of writers that do not say so
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


def _of_decimals(array: Any, kind: str | None) -> Any:
    """Decimals as int64 or text where they are that exactly, else as the nearest float64.

    Whole ones beyond int64 stay decimals.
    """
    import pyarrow as pa

    if kind == "string":
        return array.cast(pa.string())
    if array.type.scale <= 0 and kind != "number":
        return _cast(array, "integer")
    return array.cast(pa.string()).cast(pa.float64())  # to the nearest, as a straight cast is not


def _csv_column(array: Any, kind: str | None, missing: Collection[str]) -> Column:
    """A column of a CSV file; where one of its numbers is none, that one stays text."""
    import pyarrow as pa
    from pyarrow import compute

    array = without_texts(array, missing)
    if kind not in ("number", "integer") or not pa.types.is_string(array.type):
        return _arrow_column(array, kind)
    numbers = _cast(compute.utf8_trim_whitespace(array), kind)
    if pa.types.is_string(numbers.type):
        return numbers_in(array.to_pylist(), PLAIN, kind)
    return _arrow_column(numbers, kind)


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
