"""Drift of a running pipeline: a watcher of the monitor's that says what is not as in training.

`drift_watcher` is fed by the monitor and says what it finds; `references` puts together what
versions in service were trained on, `waiting_rows` holds events until it is known what was decided
of them. What is drift and what is not says `models.drift`.
"""

from agents.drift.drift_watcher import DRIFT, DRIFT_SIZES, DriftWatcher

__all__ = ["DRIFT", "DRIFT_SIZES", "DriftWatcher"]
