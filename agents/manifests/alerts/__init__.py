"""Alerts, and what to do about them.

`rules` are Prometheus' recording rules and alerts, with links; `runbooks` the pages that these lead
to, and where Grafana shows them.
"""

from agents.manifests.alerts.rules import FOLDER as PROMETHEUS_FOLDER
from agents.manifests.alerts.rules import GRAFANA_URL, alert_rules
from agents.manifests.alerts.runbooks import (
    RUNBOOKS_UID,
    runbook_files,
    runbook_panel,
    runbook_path,
)

__all__ = [
    "GRAFANA_URL", "PROMETHEUS_FOLDER", "RUNBOOKS_UID", "alert_rules", "runbook_files",
    "runbook_panel", "runbook_path",
]  # fmt: skip
