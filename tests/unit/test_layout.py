"""Packages are entered by their front doors, and few modules stand outside of them.

The order of packages is held by `lint-imports`, see `[tool.importlinter]` in pyproject.toml.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("agents", "models", "topics")
MODULES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
MANY = 5


PACKAGES = [
    ".".join(path.parent.relative_to(ROOT).parts) for path in MODULES if path.name == "__init__.py"
]


@cache
def exported(package: str) -> set[str]:
    """What *package* gives to others; nothing where its modules are imported one by one."""
    return set(getattr(import_module(package), "__all__", ()))


@cache
def imported_names(path: Path) -> Mapping[str, set[str]]:
    """Module → names that *path* imports of it."""
    names: dict[str, set[str]] = defaultdict(set)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names[node.module] |= {alias.name for alias in node.names}
    return names


def imports_from_others(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of all that *path* imports of modules in other packages of ours."""
    own = ".".join(path.relative_to(ROOT).parent.parts)
    for module, names in imported_names(path).items():
        if module.split(".")[0] in FOLDERS and module.rpartition(".")[0] not in {"", own}:
            yield from ((module, name) for name in names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_package_exports_is_imported_from_the_package(path: Path) -> None:
    past_the_door = [
        f"{name} of {module}"
        for module, name in imports_from_others(path)
        if name in exported(module.rpartition(".")[0])
    ]
    assert not past_the_door


def is_package(module: str) -> bool:
    """Whether *module* is a folder."""
    return (ROOT / module.replace(".", "/")).is_dir()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_others_use_of_a_package_that_exports_is_exported(path: Path) -> None:
    inside = [
        f"{name} of {module}"
        for module, name in imports_from_others(path)
        if exported(module.rpartition(".")[0]) and not is_package(module)
        # Exported, a function of its module's name would hide the module.
        if name != module.rpartition(".")[2]
    ]
    assert not inside


@pytest.mark.parametrize("package", [p for p in PACKAGES if exported(p)])
def test_whatever_a_package_exports_is_used_by_others(package: str) -> None:
    folder = ROOT / package.replace(".", "/")
    users = [path for path in MODULES if not path.is_relative_to(folder)]
    used = {name for path in users for name in imported_names(path)[package]}
    assert exported(package) <= used


@pytest.mark.parametrize("folder", FOLDERS)
def test_few_modules_stand_outside_of_packages(folder: str) -> None:
    outside = {path.name for path in (ROOT / folder).glob("*.py")} - {"__init__.py", "__main__.py"}
    assert len(outside) <= MANY


@pytest.mark.parametrize(
    "package", [path for path in MODULES if path.name == "__init__.py"], ids=lambda p: p.parent.name
)
def test_a_package_says_what_it_is(package: Path) -> None:
    text = ast.get_docstring(ast.parse(package.read_text())) or ""
    assert 3 <= len(text.splitlines()) <= 10
