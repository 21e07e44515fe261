"""Data files of others (Parquet, CSV, JSON lines) as event rows, batch by batch.

`datasets` is the way in: rows as they are, or as the events of a pipeline file. `formats` opens a
file, `frames` a table of pandas, Polars or Arrow; `columns` and `time_formats` read its values and
outcomes; `served_windows` has features as they were served.
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
from models.data.datasets import SERVED_BY, count_rows, event_rows, read_rows, served_by
from models.data.errors import DatasetNotFound, MissingLabel, UnreadableDataset
from models.data.formats import open_data_file
from models.data.frames import FrameTable
from models.data.served_windows import served_windows
from models.data.time_formats import EPOCHS, PATTERNS, time_in

__all__ = [
    "EPOCHS", "FALSE_TEXTS", "PATTERNS", "SERVED_BY", "TRUE_TEXTS", "Column", "DatasetNotFound",
    "FrameTable", "MissingLabel", "UnreadableDataset", "binary", "count_rows", "event_rows",
    "json_values", "moment_of", "open_data_file", "outcome_name", "read_rows", "served_by",
    "served_windows", "time_in", "without",
]  # fmt: skip
