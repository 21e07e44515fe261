"""Data files of others (Parquet, CSV, JSON lines) as event rows, batch by batch.

`datasets` is the way in: rows as they are, or as the events of a pipeline file. `formats` opens a
file, `columns` and `time_formats` read its values and outcomes; `served_windows` has
features as they were served, and with which chance.
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
from models.data.served_windows import ServedPart, joined_parts, served_parts
from models.data.time_formats import EPOCHS, PATTERNS, time_in

__all__ = [
    "EPOCHS", "FALSE_TEXTS", "PATTERNS", "SERVED_BY", "TRUE_TEXTS", "Column", "DatasetNotFound",
    "MissingLabel", "ServedPart", "UnreadableDataset", "binary", "count_rows", "event_rows",
    "joined_parts", "json_values", "moment_of", "open_data_file", "outcome_name", "read_rows",
    "served_by", "served_parts", "time_in", "without",
]  # fmt: skip
