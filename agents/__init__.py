"""The running system: workers, and the command line that starts and looks after them.

    components/ workers/ join/ windows/ stages/ weigh/ explainer/ spans/   what happens to a row
    recovery/ identity/ redrive/     after a restart; when a topic is another one; when a row died
    process/ control/ service/ renewal/   a process of workers; versions in service, renewed
    broker/ audit/ status/ publish/ gateway/ monitor/ quality/ drift/ learning/   beside workers
    rollout/ explanations/ trace/ evidence/ replay/   another pipeline; why, how, proven, again
    offline/ notebook/               a file without a broker; `from agents import Pipeline`
    demo/ capacity/ manifests/ contract/ report/ commands/   what people call, files for others

Packages import only what stands below them in `[tool.importlinter]` of pyproject.toml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.notebook import Pipeline as Pipeline

DISTRIBUTION = "anabranch"
"""Whose package this is: others have the name, see `topics.installation.own_packages`."""


def __getattr__(name: str) -> Any:
    """`from agents import Pipeline`: the Python interface, loaded when it is asked for."""
    if name != "Pipeline":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from topics.installation import use_own_packages

    use_own_packages()
    from agents.notebook import Pipeline

    return Pipeline
