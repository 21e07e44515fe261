"""Importing what a pipeline file names, from the folders of a user.

A user's folder may be called like a package of ours: `models/velocity.py` beside the pipeline file
is `models.velocity`. It is found as long as ours has no module of that name: the folder is looked
into behind ours. Where ours has one, that is said, as the user's would never be run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from topics.installation.own_packages import NAMES, ROOT


def imported_attribute(path: str, folders: Sequence[Path]) -> object:
    """What `package.module.name` or `package.module:name` is, also in *folders*.

    They stay on the search path. Raises whatever importing raises, and ImportError where a module
    of ours has the name of a user's.
    """
    module, _, attribute = path.replace(":", ".").rpartition(".")
    for folder in folders:
        place = str(folder.resolve())
        if place not in sys.path:
            sys.path.append(place)
    top = module.partition(".")[0]
    if top in NAMES:
        _look_into(top, module, folders)
    return getattr(import_module(module), attribute)


def _look_into(name: str, module: str, folders: Sequence[Path]) -> None:
    """Find modules of package *name* of ours in folders of that name, too."""
    package = import_module(name)
    for folder in folders:
        theirs = folder.resolve() / name
        if theirs == ROOT / name or not theirs.is_dir():
            continue
        if str(theirs) not in package.__path__:
            package.__path__.append(str(theirs))
        if (clash := _first_of_both(module, folder.resolve())) is not None:
            raise ImportError(
                f"{clash} is a module of Anabranch, and {theirs} has one of that name: call the "
                f"folder something else, my_{name} for example, or the module"
            )


def _first_of_both(module: str, folder: Path) -> str | None:
    """The first part of the path of *module* that is in the user's folder and in ours."""
    words = module.split(".")
    for end in range(2, len(words) + 1):
        inside = Path(*words[:end])
        both = [
            (root / inside).is_dir() or (root / inside.with_suffix(".py")).is_file()
            for root in (folder, ROOT)
        ]
        if all(both):
            return ".".join(words[:end])
        if not both[1]:
            return None
    return None
