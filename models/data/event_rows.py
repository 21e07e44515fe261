"""The rows of a data file as a pipeline's events, with the fields that no column holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from models.data.columns import Column
from models.data.datasets import RowBatch, read_rows
from topics.pipeline import Pipeline


def event_rows(
    pipeline: Pipeline, path: str, *, now: Callable[[], str], labelled: bool
) -> Iterator[RowBatch]:
    """Yield the rows of *path* as the pipeline file maps them, labelled for training or not.

    `now` gives the time (RFC 3339) of rows whose file has none. Raises as `read_rows`.
    """
    data, fields = pipeline.data, pipeline.event.fields
    batches = read_rows(
        path, columns=data.columns, fields=[name for name in fields if name not in data.generated],
        label=data.label if labelled else None, positive=data.positive,
        types={name: field.type for name, field in fields.items()},
        optional=[name for name, field in fields.items() if field.optional],
        missing_values=data.missing_values, time_formats=data.time_formats,
    )  # fmt: skip
    rows_before = 0
    for batch in batches:
        columns = dict(batch.columns)
        if data.row_number is not None:
            numbers = range(rows_before + 1, rows_before + batch.rows + 1)
            as_text = fields[data.row_number].type == "string"
            made: Column = [str(number) if as_text else number for number in numbers]
            columns[data.row_number] = made
        if data.published_at is not None:
            columns[data.published_at] = [now()] * batch.rows
        yield RowBatch(batch.rows, columns, batch.labels)
        rows_before += batch.rows
