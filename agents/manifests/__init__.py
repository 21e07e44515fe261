"""Files that run a pipeline elsewhere, made from its pipeline file: Compose; `kubernetes/` below.

`compose_file` says what is in one, with `compose_stack` (what stands beside the workers);
`compose_secure` adds TLS and passwords, `compose_yaml` makes the text.
"""

from agents.manifests.compose_file import PIPELINES, Layout, render
from agents.manifests.compose_secure import render_secure

__all__ = [
    "PIPELINES", "Layout", "render", "render_secure",
]  # fmt: skip
