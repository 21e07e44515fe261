"""A pipeline's Kubernetes manifests: a Kustomize base, and overlays to start from.

`files` makes the folder of a `workload` for each component, its `scaling`, the `audit`, the
`gateway` and the `training` beside them, their `surroundings` and `monitoring`, and their `access`
to the broker. `pod` says what every pod has, `configuration` what of the file a component goes by,
`names` what things are called.
"""

from agents.manifests.kubernetes.files import Source, overlay_findings, write
from agents.manifests.kubernetes.monitoring import read_dashboards, read_rules
from agents.manifests.kubernetes.names import Cluster

__all__ = [
    "Cluster", "Source", "overlay_findings", "read_dashboards", "read_rules", "write",
]  # fmt: skip
