"""What every worker does, whatever its component: app, partitions, progress, signs of life.

`app` is its Faust app, `wiring` what else it is connected to, `worker` how it owns partitions.
`topic_tail` reads what topics hold already (`agents.recovery` makes sense of it). `signs_of_life`,
`stage_pulse` and `attended_clock` are about who lives, `flow_control` about how much is read ahead,
`metrics` and `stage_metrics` about what is measured.
"""

from agents.workers.app import StageApp, add_agent, create_app
from agents.workers.attended_clock import AttendedClock
from agents.workers.flow_control import FlowControl
from agents.workers.metrics import Metrics
from agents.workers.stage_metrics import Ends, StageMetrics, StageStats, StageWait
from agents.workers.stage_pulse import WORKER_ENDED, WORKER_RUN, PartitionHealth, StagePulse
from agents.workers.topic_tail import GAP, TailReader, ranges, readable
from agents.workers.wiring import Wiring, check_time_outs
from agents.workers.worker import Worker, all_done

__all__ = [
    "GAP", "WORKER_ENDED", "WORKER_RUN", "AttendedClock", "Ends", "FlowControl", "Metrics",
    "PartitionHealth", "StageApp", "StageMetrics", "StagePulse", "StageStats", "StageWait",
    "TailReader", "Wiring", "Worker", "add_agent", "all_done", "check_time_outs", "create_app",
    "ranges", "readable",
]  # fmt: skip
