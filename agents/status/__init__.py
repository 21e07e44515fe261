"""How a pipeline fares, and what to do about it.

`reader` reads the reports topic and the groups, `pipeline_status` puts it together, `advice` says
what to do.
"""

from agents.status.advice import Advice, clock, duration, ranges
from agents.status.pipeline_status import Partition, PipelineStatus, WorkerStatus
from agents.status.reader import StatusReader

__all__ = [
    "Advice", "Partition", "PipelineStatus", "StatusReader", "WorkerStatus", "clock", "duration",
    "ranges",
]  # fmt: skip
