"""Which `agents`, `models` and `topics` are run: those that this file was installed with.

A folder `models/` beside a notebook, in the working directory of `python -m`, or on PYTHONPATH
would be found first, and so would `agents` of the distribution openai-agents where this one is
installed elsewhere. Ours are loaded from where they lie, before anything asks for them by name.
Where another distribution has written its files over ours nothing helps, and that is said.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from topics.errors import AnabranchError

ROOT = Path(__file__).resolve().parents[2]
"""Where our packages lie."""
NAMES = ("topics", "models", "agents")
_RIVAL = "openai-agents"
"""A distribution whose package has the name of one of ours."""


class OtherPackage(AnabranchError):
    """Another package has the name of one of ours, and is there already."""

    def __init__(self, name: str, place: str, remedy: str) -> None:
        super().__init__(f"{name} is {place}, which is not Anabranch's package {name}: {remedy}")


def use_own_packages(root: Path = ROOT) -> None:
    """Make `topics`, `models` and `agents` those of *root*. Raises OtherPackage.

    What was imported by these names from elsewhere is somebody's, and is not taken away.
    """
    for name in NAMES:
        own = root / name / "__init__.py"
        loaded = sys.modules.get(name)
        if loaded is not None:
            if not _is_at(loaded, root / name):
                raise OtherPackage(
                    name, f"imported from {_place(loaded)}",
                    "import Anabranch first, or give that folder another name",
                )  # fmt: skip
            continue
        found = find_spec(name)
        if found is None or found.origin is None or Path(found.origin).resolve() != own:
            _load(name, own)
    _check_not_overwritten(root)


def main() -> None:
    """`anabranch`: the command line, with our packages. Errors are one line and exit code 1."""
    try:
        use_own_packages()
        if rival_is_installed():
            sys.stderr.write(
                f"warning: {_RIVAL} is installed here too, and its package is called agents like "
                "one of Anabranch's: in this process `import agents` is Anabranch's; install them "
                "in environments of their own\n"
            )
    except AnabranchError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
    import_module("agents.cli").main()


def rival_is_installed() -> bool:
    """Whether a distribution with a package of our name is in this environment."""
    try:
        distribution(_RIVAL)
    except PackageNotFoundError:
        return False
    return True


def _check_not_overwritten(root: Path) -> None:
    """Raise OtherPackage where a file of another distribution lies in place of ours."""
    agents = sys.modules.get("agents") or import_module("agents")
    if getattr(agents, "DISTRIBUTION", None) != "anabranch":
        raise OtherPackage(
            "agents", f"that of {_RIVAL}, or another distribution,", f"both write to "
            f"{root / 'agents'}, so they cannot share an environment: pip uninstall {_RIVAL} "
            "anabranch && pip install anabranch, and the other one in an environment of its own",
        )  # fmt: skip


def _load(name: str, path: Path) -> ModuleType:
    spec = spec_from_file_location(name, path, submodule_search_locations=[str(path.parent)])
    if spec is None or spec.loader is None or not path.is_file():
        raise OtherPackage(name, f"not at {path}", "install Anabranch again")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_at(module: ModuleType, folder: Path) -> bool:
    return any(Path(each).resolve() == folder for each in getattr(module, "__path__", ()))


def _place(module: ModuleType) -> str:
    return str(getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), ""))
