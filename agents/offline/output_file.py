"""Writing rows to a file as they come: Parquet, CSV or JSON lines; whole, or not at all.

Rows that have no output stand in a file of JSON lines beside it, each with why.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import orjson

from agents.offline.errors import OutputExists, OutputNotWritable
from agents.offline.row_tables import DeadRow, RowTable
from topics.errors import MissingExtra

FORMATS = (".parquet", ".csv", ".jsonl")
_GROUP_ROWS = 64 * 1024


def dead_letters_of(path: Path) -> Path:
    """The file beside *path* that has the rows without output.

    >>> dead_letters_of(Path("june.parquet")).name
    'june.dead-letters.jsonl'
    """
    return path.with_name(f"{path.stem}.dead-letters.jsonl")


def check_output(path: Path, source: str, *, force: bool) -> None:
    """Raise, before *source* is read, what would keep a file from being written at *path*.

    Raises OutputExists, OutputNotWritable and MissingExtra.
    """
    if path.suffix.lower() not in FORMATS:
        raise OutputNotWritable(path, f"its name must end in one of {', '.join(FORMATS)}")
    if path.is_dir():
        raise OutputNotWritable(path, "it is a folder")
    for each in (path, dead_letters_of(path)):
        if each.resolve() == Path(source).resolve():
            raise OutputNotWritable(each, "it is the file that is read: name another one")
        if each.exists() and not force:
            raise OutputExists(each)
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as exc:
        raise MissingExtra(f"writing {path}", "data") from exc
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as exc:
        raise OutputNotWritable(path, exc.strerror or str(exc)) from exc


class OutputFile:
    """Takes tables; see `writing`."""

    def __init__(self, path: Path, schema: Any, metadata: Mapping[str, str]) -> None:
        self._path, self._schema, self._metadata = path, schema, metadata
        self._parts = {
            each: each.with_name(f".{each.name}.{os.getpid()}")
            for each in (path, dead_letters_of(path))
        }
        self._writer: Any = None
        self._letters: Any = None
        self._held: list[Any] = []

    def write(self, rows: RowTable) -> None:
        """Append rows. Raises OSError."""
        if rows.dead:
            if self._letters is None:
                self._letters = self._parts[dead_letters_of(self._path)].open("wb")
            self._letters.write(letters(rows.dead))
        self._held.append(rows.table)
        if sum(map(len, self._held)) >= _GROUP_ROWS:
            self._flush()

    def finish(self) -> None:
        """Give the files their names. A file of dead letters that is there is no longer true."""
        self._flush()
        if self._writer is None:  # a file without rows says what its columns are
            self._held = [self._schema.empty_table()]
            self._flush()
        self.close()
        for path, part in self._parts.items():
            if part.exists():
                part.replace(path)
            else:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close what is open."""
        for each in (self._writer, self._letters):
            if each is not None:
                each.close()
        self._writer = self._letters = None

    def discard(self) -> None:
        """Leave nothing behind."""
        self.close()
        for part in self._parts.values():
            part.unlink(missing_ok=True)

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._held:
            return
        # Dictionaries are those of each table: a row group has one.
        table = pa.concat_tables(self._held).unify_dictionaries()
        self._held = []
        if self._writer is None:
            self._writer = self._opened()
        self._writer.write_table(table)

    def _opened(self) -> Any:
        part = self._parts[self._path]
        match self._path.suffix.lower():
            case ".parquet":
                from pyarrow.parquet import ParquetWriter

                said = {name.encode(): text.encode() for name, text in self._metadata.items()}
                return ParquetWriter(part, self._schema.with_metadata(said), compression="zstd")
            case ".csv":
                return _CsvWriter(part, self._schema)
            case _:
                return _JsonLinesWriter(part)


class _CsvWriter:
    """Lists, which CSV has no way to write, are JSON in it."""

    def __init__(self, path: Path, schema: Any) -> None:
        import pyarrow as pa
        from pyarrow import csv

        self._plain = pa.schema([
            (field.name, pa.string() if _is_odd(field.type) else field.type) for field in schema
        ])  # fmt: skip
        self._writer = csv.CSVWriter(path, self._plain)

    def write_table(self, table: Any) -> None:
        import pyarrow as pa

        columns = [
            pa.array(_texts(column), pa.string()) if _is_odd(column.type) else column
            for column in table.columns
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._plain))

    def close(self) -> None:
        self._writer.close()


def _is_odd(of: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_nested(of) or pa.types.is_dictionary(of) or pa.types.is_timestamp(of))


def _texts(column: Any) -> list[str | None]:
    """Values as text: lists as JSON, times as RFC 3339."""
    import pyarrow as pa

    values = column.to_pylist()
    if pa.types.is_timestamp(column.type):
        return [None if at is None else _time(at) for at in values]
    return [
        value if value is None or isinstance(value, str) else orjson.dumps(value).decode()
        for value in values
    ]


def _time(at: Any) -> str:
    return str(at.isoformat(timespec="milliseconds").replace("+00:00", "Z"))


class _JsonLinesWriter:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write_table(self, table: Any) -> None:
        for row in table.to_pylist():
            self._file.write(orjson.dumps(row, default=_time, option=_LINE))

    def close(self) -> None:
        self._file.close()


_LINE = orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_DATETIME


def letters(dead: Sequence[DeadRow]) -> bytes:
    """Rows without output as JSON lines."""
    return b"".join(
        orjson.dumps(
            {"row": row.row, "stage": row.stage, "error": row.error, "reason": row.reason,
             "event": row.event},
            default=str, option=orjson.OPT_APPEND_NEWLINE,
        )
        for row in dead
    )  # fmt: skip


@contextmanager
def writing(path: Path, schema: Any, metadata: Mapping[str, str]) -> Iterator[OutputFile]:
    """A file for rows of *schema*, there when all went well. Raises OutputNotWritable."""
    file = OutputFile(path, schema, metadata)
    with ExitStack() as stack:
        stack.callback(file.discard)
        try:
            yield file
            file.finish()
        except OSError as exc:
            raise OutputNotWritable(path, exc.strerror or str(exc)) from exc
