"""All dashboards as Grafana reads them: files of JSON by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from agents.manifests.grafana.capacity import capacity
from agents.manifests.grafana.component import component
from agents.manifests.grafana.decisions import decisions
from agents.manifests.grafana.gateway import gateway
from agents.manifests.grafana.machines import machines
from agents.manifests.grafana.models import models
from agents.manifests.grafana.overview import overview
from agents.manifests.grafana.quality import quality
from agents.manifests.grafana.runbooks import runbooks
from agents.manifests.grafana.scope import Scope

_DASHBOARDS: tuple[Callable[[Scope], dashboard.Dashboard], ...] = (
    overview, decisions, quality, component, models, capacity, gateway, machines,
)  # fmt: skip


def generated(scope: Scope) -> Mapping[str, str]:
    """The content of each file, by its name; the runbooks are the same for every scope."""
    boards = {make.__name__: make(scope) for make in _DASHBOARDS}
    boards["runbooks"] = runbooks()
    return {
        f"{name}.json": JSONEncoder(indent=2, sort_keys=True).encode(board.build()) + "\n"
        for name, board in boards.items()
    }
