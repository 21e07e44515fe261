"""Packages are entered by their front doors, and few modules stand outside of them.

The order of packages is held by `lint-imports`, see `[tool.importlinter]` in pyproject.toml.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("agents", "models", "topics")
MODULES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
MANY = 5


def exported(package: str) -> set[str]:
    """What *package* gives to others; nothing where its modules are imported one by one."""
    return set(getattr(import_module(package), "__all__", ()))


def imports_from_others(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of all that *path* imports of modules in other packages of ours."""
    own = ".".join(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            package = node.module.rpartition(".")[0]
            if node.module.split(".")[0] in FOLDERS and package not in {"", own}:
                yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_package_exports_is_imported_from_the_package(path: Path) -> None:
    past_the_door = [
        f"{name} of {module}"
        for module, name in imports_from_others(path)
        if name in exported(module.rpartition(".")[0])
    ]
    assert not past_the_door


@pytest.mark.parametrize("folder", FOLDERS)
def test_few_modules_stand_outside_of_packages(folder: str) -> None:
    outside = {path.name for path in (ROOT / folder).glob("*.py")} - {"__init__.py", "__main__.py"}
    assert len(outside) <= MANY


@pytest.mark.parametrize(
    "package", [path for path in MODULES if path.name == "__init__.py"], ids=lambda p: p.parent.name
)
def test_a_package_says_what_it_is(package: Path) -> None:
    text = ast.get_docstring(ast.parse(package.read_text())) or ""
    assert 1 <= len(text.splitlines()) <= 12
