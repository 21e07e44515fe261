"""A pipeline's Kubernetes manifests: a Kustomize base, and overlays to start from.

`files` makes the folder of a `workload` for each component, its `scaling`, its `surroundings` and
its `access` to the broker; `names` says what things are called.
"""

from agents.manifests.kubernetes.files import write
from agents.manifests.kubernetes.names import Cluster

__all__ = [
    "Cluster", "write",
]  # fmt: skip
