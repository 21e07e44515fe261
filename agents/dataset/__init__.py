"""Data sets as served: events, what components said of them, decisions and what came true.

`served_rows` makes rows of what `agents.replay` reads side by side, `outcome_store` has the
outcomes by event, `time_order` puts partitions together, and `builder` writes them to Parquet.
Features are those that decided, so no row knows of anything that came later, but for its label;
`backfill` computes those that were not served.
`topic_export` writes a whole topic as it comes, by the `record_columns` of what stands on it.
"""

from agents.dataset.arrow_columns import arrow_field, arrow_type
from agents.dataset.backfill import as_served
from agents.dataset.builder import DatasetBuilder, DatasetSummary, check_folder, check_place
from agents.dataset.errors import DatasetExists, NotATopic
from agents.dataset.record_columns import reader_of
from agents.dataset.served_rows import maturity_ms
from agents.dataset.topic_export import ExportSummary, TopicExport

__all__ = [
    "DatasetBuilder", "DatasetExists", "DatasetSummary", "ExportSummary", "NotATopic",
    "TopicExport",
    "arrow_field", "arrow_type", "as_served", "check_folder", "check_place", "maturity_ms",
    "reader_of",
]  # fmt: skip
