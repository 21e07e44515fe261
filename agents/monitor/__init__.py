"""The monitor: one process beside a pipeline's workers that watches what they decide.

`monitor_worker` is what it does, and states what holds after a crash; `watcher` is the contract of
what it feeds with decisions, events and outcomes. Under them are `decision_batch` (decisions as
columns), `decision_store` (decisions that wait for outcomes, matched whatever comes when),
`topic_feed`, `monitor_writer` and `snapshots`, `outcome_letters` (what no decision was found for),
and `election`: of several monitors one is active.
"""

from agents.monitor.decision_batch import DecisionBatch, MatchedOutcomes
from agents.monitor.decision_store import DecisionStore, LabelledDecisions
from agents.monitor.election import election
from agents.monitor.errors import MonitorReplaced
from agents.monitor.metrics import MonitorMetrics
from agents.monitor.monitor_worker import MonitorWorker
from agents.monitor.monitor_writer import MonitorWriter
from agents.monitor.watcher import EventBatch, Finding, MonitorContext, MonitorTime, Watcher

__all__ = [
    "DecisionBatch", "DecisionStore", "EventBatch", "Finding", "LabelledDecisions",
    "MatchedOutcomes", "MonitorContext", "MonitorMetrics", "MonitorReplaced", "MonitorTime",
    "MonitorWorker", "MonitorWriter", "Watcher", "election",
]  # fmt: skip
