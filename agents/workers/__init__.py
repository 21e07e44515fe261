"""What every worker does, whatever its component: app, partitions, progress, signs of life.

`app` and `worker` first. `topic_tail` finds how far it got at its last life, `coverage` whether
offsets continue, `poison_rows` which row ended it; `stage_pulse` and `attended_clock` are about who
lives, `flow_control` about how much is read ahead, `metrics` and `stage_metrics` about what is
measured.
"""

from agents.workers.app import StageApp, add_agent, create_app
from agents.workers.coverage import check_continues, covered_from
from agents.workers.flow_control import InStep
from agents.workers.metrics import Metrics
from agents.workers.poison_rows import ENDINGS_AT_ROW, ENDINGS_AT_ROWS, WORKER_ENDED, Trial
from agents.workers.stage_metrics import StageMetrics, StageStats, Wait
from agents.workers.stage_pulse import WORKER, StagePulse, Standing
from agents.workers.timeouts import check_time_outs
from agents.workers.topic_tail import GAP, TailReader, ranges, readable
from agents.workers.worker import Wiring, Worker, all_done, is_backlog

__all__ = [
    "ENDINGS_AT_ROW", "ENDINGS_AT_ROWS", "GAP", "WORKER", "WORKER_ENDED", "InStep", "Metrics",
    "StageApp", "StageMetrics", "StagePulse", "StageStats", "Standing", "TailReader", "Trial",
    "Wait", "Wiring", "Worker", "add_agent", "all_done", "check_continues", "check_time_outs",
    "covered_from", "create_app", "is_backlog", "ranges", "readable",
]  # fmt: skip
