"""The report of a pipeline: one page of what its topics say, from a time on.

`collector` reads the topics, each once and in memory that does not grow with them; `time_bins`
counts by time, `figures` is what is known in the end, and `page` (with `plots`) shows it.
"""

from agents.report.collector import collected
from agents.report.figures import PipelineFigures
from agents.report.page import figures_page

__all__ = ["PipelineFigures", "collected", "figures_page"]
