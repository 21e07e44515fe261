"""A pipeline over files and frames, without a broker: scored, judged, or its features alone.

`event_chunks` makes of rows the records that would be published, `offline_run` runs the code of
serving over them, `row_tables` says what came of it in Arrow; `output_file` writes that as it
comes. `scoring` puts these together, `evaluation` judges scores by outcomes; `errors` are all
errors.
"""

from agents.offline.evaluation import FileEvaluation, Judge
from agents.offline.event_chunks import FileEvents
from agents.offline.output_file import check_output
from agents.offline.row_tables import whole_table
from agents.offline.scoring import Extraction, FileSummary, Scoring, write_rows

__all__ = [
    "Extraction", "FileEvaluation", "FileEvents", "FileSummary", "Judge",
    "Scoring", "check_output", "whole_table", "write_rows",
]  # fmt: skip
