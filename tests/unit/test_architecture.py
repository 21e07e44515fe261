"""What the documents say of the tree is so: files, tests, links, commands; and they are short."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

from agents.cli import app

ROOT = Path(__file__).parents[2]
FOLDERS = ("agents", "deploy", "models", "tests", "topics")
PAGES = sorted(
    [*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
)
OF_TODAY = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""The changelog says what was so."""
_PATH = re.compile(rf"(?<![\w./-])((?:{'|'.join(FOLDERS)})/[\w./@-]*\w)(?:::(\w+))?")


def title(page: Path) -> str:
    """Its path, as a test is called."""
    return str(page.relative_to(ROOT))


@cache
def names_in(path: Path) -> frozenset[str]:
    """The names of the functions in a file of tests."""
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def without_blocks(text: str) -> str:
    """The text without its blocks of code, in which a hash or a bracket means something else."""
    return re.sub(r"^```.*?^```|^    .*?$", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", OF_TODAY, ids=title)
def test_every_file_and_every_test_that_a_page_names_is_there(page: Path) -> None:
    missing = []
    for named, test in _PATH.findall(re.sub(r"\]\([^)]*\)", "", page.read_text())):
        path = ROOT / named
        if not path.exists() or (test and test not in names_in(path)):
            missing.append(f"{named}::{test}" if test else named)
    assert not missing


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text())):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


class Example(NamedTuple):
    """A command in a block of a page."""

    page: str
    line: str


def examples() -> Iterator[Example]:
    """Every `anabranch …` in a block; runbooks and operations have tests of their own."""
    for page in OF_TODAY:
        if page.parent.name != "runbooks":
            for line in re.findall(r"^ {4}(anabranch [^#\n|]+)", page.read_text(), re.MULTILINE):
                words = re.sub(r"\[[^]]*\]…?", "", line)  # optional ones
                yield Example(title(page), words.strip())


@pytest.mark.parametrize(
    "example", sorted(set(examples())), ids=lambda each: f"{each.page}: {each.line}"
)
def test_a_command_of_a_page_is_one_that_the_command_line_takes(example: Example) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(example.line)[1:]
    while hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    with command.make_context("anabranch", words):
        pass


@pytest.mark.parametrize(("name", "lines"), [("README.md", 130), ("ARCHITECTURE.md", 150)])
def test_what_is_read_first_is_short(name: str, lines: int) -> None:
    assert len((ROOT / name).read_text().splitlines()) <= lines


def test_the_readme_shows_a_component_early() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert lines.index("```python") < 40


def test_a_new_reader_is_led_along_at_most_ten_files() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    way = text.partition("## The way of one event")[2].partition("\n## ")[0]
    steps = re.findall(r"^\d+\. `([^`]+)`", way, re.MULTILINE)
    assert 5 <= len(steps) <= 10
    assert len(set(steps)) == len(steps)
