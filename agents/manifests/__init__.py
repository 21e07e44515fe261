"""Files that run and watch a pipeline elsewhere, made from its pipeline file.

`compose_file` says what is in a Compose file, with `compose_stack` (what stands beside the
workers); `compose_secure` adds TLS and passwords, `compose_yaml` makes the text. `kubernetes/`,
`grafana/` and `alerts/` are below.
"""

from agents.manifests.compose_file import PIPELINES, Layout, render
from agents.manifests.compose_secure import render_secure

__all__ = [
    "PIPELINES", "Layout", "render", "render_secure",
]  # fmt: skip
