"""Grafana dashboards of every pipeline, or of one; needs the extra `grafana`.

`dashboards` makes them; `overview`, `decisions`, `component`, `models`, `capacity`, `machines` and
`runbooks` are one each. `frame` is what all have around their panels, `panels` the few kinds of
panel, `scope` whose dashboards they are.
"""

from agents.manifests.grafana.dashboards import generated
from agents.manifests.grafana.scope import Scope

__all__ = [
    "Scope", "generated",
]  # fmt: skip
