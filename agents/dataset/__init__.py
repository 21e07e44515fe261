"""Data sets as served: events, what components said of them, decisions and what came true.

`served_rows` makes rows of what `agents.replay` reads side by side, `outcome_store` has the
outcomes by event, `time_order` puts partitions together, and `builder` writes them to Parquet.
Features are those that decided, so no row knows of anything that came later, but for its label.
"""

from agents.dataset.builder import DatasetBuilder, DatasetSummary, check_place
from agents.dataset.errors import DatasetExists
from agents.dataset.served_rows import maturity_ms

__all__ = ["DatasetBuilder", "DatasetExists", "DatasetSummary", "check_place", "maturity_ms"]
