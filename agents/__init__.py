"""The running system: workers, and the command line that starts and looks after them.

    components/ workers/ join/ windows/ stages/ weigh/ explainer/ spans/   what happens to a row
    recovery/ identity/ redrive/     after a restart; when a topic is another one; when a row died
    process/ control/ service/ renewal/   a process of workers; versions in service, renewed
    broker/ audit/ status/ publish/ gateway/ monitor/ quality/ drift/ learning/   beside workers
    rollout/ explanations/ trace/ evidence/ replay/ offline/   another; why, how, proven, again
    demo/ capacity/ manifests/ contract/ report/ commands/ notebook/   what people call

Packages import only what stands below them in `[tool.importlinter]` of pyproject.toml.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.notebook import Pipeline as Pipeline

DISTRIBUTION = "anabranch"
"""Whose package this is: others have the name, see `topics.installation.own_packages`."""


def __getattr__(name: str) -> Any:
    """`from agents import Pipeline`: the Python interface, loaded when it is asked for."""
    if name != "Pipeline":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    use_own_packages()
    from agents.notebook import Pipeline

    return Pipeline


def use_own_packages() -> None:
    """Make `topics` and `models` those beside this package, whatever is found by their names first.

    A notebook's folder is searched before all else. Raises OtherPackage.
    """
    if "topics" not in sys.modules:
        path = Path(__file__).resolve().parents[1] / "topics" / "__init__.py"
        spec = spec_from_file_location(
            "topics", path, submodule_search_locations=[str(path.parent)]
        )
        if spec is not None and spec.loader is not None:
            module = module_from_spec(spec)
            sys.modules["topics"] = module
            spec.loader.exec_module(module)
    try:
        own = import_module("topics.installation.own_packages")
    except ModuleNotFoundError as exc:
        raise ImportError(
            "`topics` has been imported from elsewhere, and one of Anabranch's packages is called "
            "so: `from agents import Pipeline` first, or give that folder another name"
        ) from exc
    own.use_own_packages()
