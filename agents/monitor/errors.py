"""Why a monitor ends.

AnabranchError
├── MonitorReplaced   another monitor of the pipeline writes now
└── MonitorStopped    its consumer group does not have it any more
"""

from __future__ import annotations

from topics.errors import AnabranchError


class MonitorReplaced(AnabranchError):
    """Another monitor of the pipeline has taken over."""

    def __init__(self, name: str) -> None:
        super().__init__(f"another process is {name} now: this one has written nothing since")


class MonitorStopped(AnabranchError):
    """The broker lets this process be in the monitors' group no longer."""

    def __init__(self, group: str, cause: object) -> None:
        super().__init__(f"{group}: {cause}; start it again")
