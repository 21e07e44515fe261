"""Data files of others (Parquet, CSV, JSON lines) as event rows, batch by batch.

`datasets` is the way in: rows as they are, or as the events of a pipeline file. `formats` opens a
file, `frames` a table of pandas, Polars or Arrow; `columns` and `time_formats` read its values and
outcomes; `served_windows` has features as they were served, and with which chance.
"""

from models.data.columns import (
    FALSE_TEXTS,
    TRUE_TEXTS,
    Column,
    binary,
    json_values,
    moment_of,
    outcome_name,
    without,
)
from models.data.csv_files import guess_format, is_csv
from models.data.datasets import SERVED_BY, count_rows, event_rows, read_rows, served_by
from models.data.errors import DatasetNotFound, MissingLabel, UnreadableDataset
from models.data.formats import check_dataset, open_data_file
from models.data.frames import FrameTable
from models.data.number_formats import PLAIN, fitting_formats, number_in
from models.data.served_windows import ServedPart, joined_parts, served_parts
from models.data.time_formats import EPOCHS, fitting_patterns, shaped_like, time_in

__all__ = [
    "EPOCHS",
    "FALSE_TEXTS",
    "PLAIN",
    "SERVED_BY",
    "TRUE_TEXTS",
    "Column",
    "DatasetNotFound",
    "FrameTable",
    "MissingLabel",
    "ServedPart",
    "UnreadableDataset",
    "binary",
    "check_dataset",
    "count_rows",
    "event_rows",
    "fitting_formats",
    "fitting_patterns",
    "guess_format",
    "is_csv",
    "joined_parts",
    "json_values",
    "moment_of",
    "number_in",
    "open_data_file",
    "outcome_name",
    "read_rows",
    "served_by",
    "served_parts",
    "shaped_like",
    "time_in",
    "without",
]  # fmt: skip
