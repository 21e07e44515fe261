"""Data files (Parquet, CSV, JSON lines) as a stream of event rows, a batch at a time.

for batch in read_rows("june.parquet", columns={"TX_AMOUNT": "amount"}, fields=["amount"]):
    for event in batch.events():
        print(event)            # {'amount': 57.16}
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.arrays import Bools
from models.data.columns import Column, binary, json_values, outcome_name, typed, without
from models.data.errors import LabelNotBinary, MissingColumns, MissingLabel
from models.data.formats import arrow_errors, check_dataset, open_data_file
from models.data.frames import FrameTable
from models.data.number_formats import PLAIN, numbers_in
from models.data.text_files import suffix_of
from models.data.time_formats import times_in
from topics.pipeline import OUTCOME, CsvFormat, DataMapping

if TYPE_CHECKING:
    from topics.pipeline import Pipeline

_AS_WRITTEN = "as written"
"""No type of a field: what has none in the file stays text, what has one keeps it."""
SERVED_BY = b"anabranch.pipeline"
"""Key of a Parquet file's metadata."""


@dataclass(frozen=True, slots=True)
class RowBatch:
    """N rows of a data file."""

    rows: int
    columns: dict[str, Column]
    """Event field → N values; see `columns.typed` for how each type is held."""
    labels: Bools | None
    """The true outcomes (N,), or None when no label was asked for."""
    known: Bools | None = None
    """Which rows have an outcome (N,); None where all have, or no label was asked for."""

    def events(self) -> Iterator[dict[str, object]]:
        """Yield each row as the JSON object that a producer would send; no nulls, no label."""
        names = tuple(self.columns)
        columns = [json_values(column) for column in self.columns.values()]
        rows = zip(*columns, strict=True)
        if any(None in column for column in columns):
            return (
                {n: v for n, v in zip(names, row, strict=True) if v is not None} for row in rows
            )
        return (dict(zip(names, row, strict=True)) for row in rows)


@dataclass(frozen=True, slots=True)
class _WrittenFields:
    """How a file writes values of fields; the mappings are those of `read_rows`."""

    types: Mapping[str, str]
    time_formats: Mapping[str, str]
    number_formats: Mapping[str, str]
    missing_values_of: Mapping[str, Collection[str]]

    def kind(self, field: str) -> str | None:
        """The type that the file's column is read as."""
        if field in self.time_formats:
            return "string"
        is_late = field in self.number_formats or field in self.missing_values_of
        return _AS_WRITTEN if is_late else self.types.get(field)

    def values(self, field: str, column: Column) -> Column:
        """The field's values, of a column that was read as `kind`."""
        if field in self.missing_values_of:
            column = without(json_values(column), self.missing_values_of[field])
        if field in self.time_formats:
            return times_in(column, self.time_formats[field])
        if self.kind(field) == _AS_WRITTEN:
            return _typed(column, self.types.get(field), self.number_formats.get(field, PLAIN))
        return column


def read_rows(
    path: str | FrameTable,
    *,
    columns: Mapping[str, str],
    fields: Collection[str],
    label: str | None = None,
    types: Mapping[str, str] | None = None,
    optional: Collection[str] = (),
    positive: str | float | None = None,
    missing_values: Collection[str] = (),
    time_formats: Mapping[str, str] | None = None,
    number_formats: Mapping[str, str] | None = None,
    missing_values_of: Mapping[str, Collection[str]] | None = None,
    csv: CsvFormat | None = None,
    unlabelled: bool = False,
    batch_rows: int = 8192,
) -> Iterator[RowBatch]:
    """Yield the rows of FILE.parquet, .csv, .tsv, .jsonl, `-` (JSON lines on stdin), or a frame.

    `columns` maps file columns to event fields; a column that has a field's own name needs no
    entry, and other columns are dropped. `label` is a column's name, or the name it is mapped
    to. `types` are the fields' types (string, integer, number, boolean, timestamp, vector);
    `optional` fields may have no column. A batch holds at most `batch_rows` rows.
    What is behind these are those of `topics.pipeline.event_schema.DataMapping`. Rows that have no
    outcome are passed over where `positive` says what one is, and refused elsewhere, unless
    *unlabelled* keeps them (`known`).

    Raises DatasetError and MissingExtra, when the first batch is asked for.
    """
    with open_data_file(path, batch_rows, missing_values, csv) as source:
        chosen = _columns_of_fields(source.names, columns, fields)
        if missing := [name for name in fields if name not in chosen and name not in optional]:
            raise MissingColumns(str(path), missing, source.names)
        if source.may_have_more:
            chosen |= _columns_to_come(source.names, columns, fields, chosen)
        outcome = None if label is None else _label_column(path, source.names, columns, label)

        written = _WrittenFields(
            types or {}, time_formats or {}, number_formats or {}, missing_values_of or {}
        )
        wanted = {column: written.kind(field) for field, column in chosen.items()}
        if outcome is not None:
            wanted.setdefault(outcome, None if positive is None else "string")
        rows_before = 0
        for batch in source.batches(wanted):
            rows = len(next(iter(batch.values()), ()))
            labels = known = None
            if outcome is not None and unlabelled:
                labels, known = _known_labels(batch[outcome], positive, path, outcome, rows_before)
            elif outcome is not None and positive is None:
                labels = _labels(batch[outcome], path, outcome, rows_before)
            fields_read = {
                field: written.values(field, batch[column]) for field, column in chosen.items()
            }
            batch_of_events = RowBatch(rows, fields_read, labels, known)
            if outcome is not None and positive is not None and not unlabelled:
                batch_of_events = _with_labels(
                    batch_of_events, json_values(batch[outcome]), positive
                )
            yield batch_of_events
            rows_before += rows


def event_rows(
    pipeline: Pipeline, path: str | FrameTable, *, now: Callable[[], str], labelled: bool,
    unlabelled: bool = False,
) -> Iterator[RowBatch]:  # fmt: skip
    """Yield the rows of *path* as the pipeline file maps them, labelled for training or not.

    With *unlabelled* rows without an outcome are among those that have one.

    A file that holds events as this pipeline served them has its own names, and is not mapped.
    `now` gives the time (RFC 3339) of rows whose file has none. Raises as `read_rows`.
    """
    data, fields = pipeline.data, pipeline.event.fields
    if served_by(path) == pipeline.name:
        data = DataMapping(label=OUTCOME, positive=True)
    batches = read_rows(
        path, columns=data.columns, fields=[name for name in fields if name not in data.generated],
        label=data.label if labelled else None, positive=data.positive,
        types={name: field.type for name, field in fields.items()},
        optional=[name for name, field in fields.items() if field.optional],
        missing_values=data.missing_values, time_formats=data.time_formats,
        number_formats=data.number_formats, missing_values_of=data.missing_values_of, csv=data.csv,
        unlabelled=unlabelled,
    )  # fmt: skip
    rows_before = 0
    for batch in batches:
        columns = dict(batch.columns)
        if data.row_number is not None:
            numbers = range(rows_before + 1, rows_before + batch.rows + 1)
            as_text = fields[data.row_number].type == "string"
            numbered: Column = [str(number) if as_text else number for number in numbers]
            columns[data.row_number] = numbered
        if data.published_at is not None:
            columns[data.published_at] = [now()] * batch.rows
        yield RowBatch(batch.rows, columns, batch.labels, batch.known)
        rows_before += batch.rows


def served_by(path: str | FrameTable) -> str | None:
    """The pipeline whose events a Parquet file holds as `anabranch dataset` writes them."""
    if isinstance(path, FrameTable):
        return None
    if suffix_of(path) != ".parquet":
        return None
    check_dataset(path)
    with arrow_errors(path):
        from pyarrow.parquet import read_schema

        said = (read_schema(path).metadata or {}).get(SERVED_BY)
        return None if said is None else said.decode(errors="replace")


def count_rows(path: str | FrameTable) -> int | None:
    """How many rows a Parquet file says it has; None for what cannot be counted unread."""
    if isinstance(path, FrameTable):
        return path.rows
    if suffix_of(path) != ".parquet":
        return None
    check_dataset(path)
    with arrow_errors(path):
        from pyarrow.parquet import read_metadata

        return int(read_metadata(path).num_rows)


def _typed(values: Column, kind: str | None, number_format: str) -> Column:
    """The values, as the file writes them, as those of a field."""
    if kind in ("number", "integer"):
        values = numbers_in(values, number_format, kind)
    return typed(values, kind) if isinstance(values, list) else values


def _columns_of_fields(
    names: Collection[str], columns: Mapping[str, str], fields: Collection[str]
) -> dict[str, str]:
    """Event field → file column, for the fields that have one; a mapping beats a same name."""
    mapped = {field: column for column, field in columns.items() if column in names}
    own = {name: name for name in names if name not in columns}
    available = own | mapped
    return {field: available[field] for field in fields if field in available}


def _columns_to_come(
    names: Collection[str],
    columns: Mapping[str, str],
    fields: Collection[str],
    known: Collection[str],
) -> dict[str, str]:
    """Event field → column, for fields that only later rows may have.

    Rows that use a mapped name once use mapped names throughout; others use the fields' own.
    """
    mapped = {f: c for c, f in columns.items()} if any(c in names for c in columns) else {}
    return {field: mapped.get(field, field) for field in fields if field not in known}


def _label_column(
    path: str | FrameTable, names: Collection[str], columns: Mapping[str, str], label: str
) -> str:
    """The file column that holds the label."""
    if label in names:
        return label
    for column, field in columns.items():
        if field == label and column in names:
            return column
    raise MissingLabel(str(path), label, names)


def _with_labels(batch: RowBatch, values: list[object], positive: str | float) -> RowBatch:
    """The rows that have an outcome, with it: whether it is *positive*."""
    names = [outcome_name(value) for value in values]
    rows = [row for row, name in enumerate(names) if name is not None]
    labels = np.array([names[row] == outcome_name(positive) for row in rows], dtype=np.bool_)
    if len(rows) == batch.rows:
        return RowBatch(batch.rows, batch.columns, labels)
    columns: dict[str, Column] = {
        name: column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows]
        for name, column in batch.columns.items()
    }
    return RowBatch(len(rows), columns, labels)


def _known_labels(
    column: Column, positive: str | float | None, path: str | FrameTable, label: str,
    rows_before: int,
) -> tuple[Bools, Bools]:  # fmt: skip
    """The column as booleans, and which rows have an outcome at all (N,) each.

    LabelNotBinary names the first row whose outcome is none.
    """
    values = json_values(column)
    names = [outcome_name(value) for value in values]
    known = np.array([name is not None for name in names], np.bool_)
    if positive is not None:
        wanted = outcome_name(positive)
        return np.array([name == wanted for name in names], np.bool_), known
    labels = np.zeros(len(values), np.bool_)
    rows = np.flatnonzero(known).tolist()
    for row in rows:
        outcome = binary(values[row])
        if outcome is None:
            raise LabelNotBinary(str(path), label, values[row], rows_before + row + 1)
        labels[row] = outcome
    return labels, known


def _labels(column: Column, path: str | FrameTable, label: str, rows_before: int) -> Bools:
    """The column as booleans; LabelNotBinary names the first row that is not."""
    if isinstance(column, np.ndarray) and column.dtype.kind in "buif":
        wrong = np.flatnonzero((column != 0) & (column != 1))
        if not len(wrong):
            return column.astype(np.bool_)
    values = column if isinstance(column, list) else column.tolist()
    outcomes = [binary(value) for value in values]
    if None in outcomes:
        row = outcomes.index(None)
        raise LabelNotBinary(str(path), label, values[row], rows_before + row + 1)
    return np.array(outcomes, dtype=np.bool_)
