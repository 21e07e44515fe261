"""YAML that stands for more than anybody can hold is refused, wherever it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from topics.pipeline.edits import with_parameters, with_thresholds
from topics.pipeline.file import PipelineFileError, load_pipeline
from topics.pipeline.yaml_text import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_NODES,
    MAX_SCALAR,
    composed,
    loaded,
)


def doubled(first: str, next_line: str, times: int = 30) -> str:
    """Each line has the one before it twice."""
    lines = [f"a0: &a0 {first}"]
    lines += [next_line.format(n, before=f"*a{n - 1}") for n in range(1, times)]
    return "\n".join(lines) + "\n"


TOO_MUCH = {
    "lists of aliases": (doubled("[x, x]", "a{0}: &a{0} [{before}, {before}]"), "aliases"),
    "mappings of aliases": (
        doubled("{x: 1}", "a{0}: &a{0} {{b: {before}, c: {before}}}"), "aliases",
    ),
    "merges of aliases": (doubled("{x: 1}", "a{0}: &a{0} {{<<: [{before}, {before}]}}"), "aliases"),
    "many values": ("a:\n" + "- \n" * (MAX_NODES + 1), f"more than {MAX_NODES:,} values"),
    "a deep list": (f"a: {'[' * (MAX_DEPTH + 1)}{']' * (MAX_DEPTH + 1)}", "nested too deeply"),
    "a long number": (f"a: 1{':59' * MAX_SCALAR}", f"longer than {MAX_SCALAR:,} characters"),
    "a long text": (f"a: {'x' * MAX_CHARACTERS}", f"more than {MAX_CHARACTERS:,} characters"),
}  # fmt: skip
READERS: dict[str, Callable[[str], object]] = {
    "composed": composed, "loaded": loaded,
    "new parameters": lambda text: with_parameters(text, "risk", {"depth": 4}),
    "new thresholds": lambda text: with_thresholds(text, {"decline": 0.5}, 2),
}  # fmt: skip


@pytest.mark.parametrize("what", TOO_MUCH)
@pytest.mark.parametrize("reader", READERS)
def test_what_stands_for_too_much_is_refused_by_each_that_reads_it(reader: str, what: str) -> None:
    text, reason = TOO_MUCH[what]
    with pytest.raises(yaml.YAMLError, match=reason):
        READERS[reader](text)


@pytest.mark.parametrize("what", TOO_MUCH)
def test_a_pipeline_file_that_stands_for_too_much_is_one_line(tmp_path: Path, what: str) -> None:
    text, reason = TOO_MUCH[what]
    (path := tmp_path / "p.yaml").write_text(text)
    with pytest.raises(PipelineFileError, match=f"p.yaml:[0-9]+: not readable as YAML: .*{reason}"):
        load_pipeline(path)


def test_what_is_within_the_limits_is_read_as_it_is() -> None:
    text = "# é漢\na: &a {x: 1, y: [2, 3.5]}\nb: {<<: *a, x: no}\nc: [*a, *a]\nd: '\\n'\n"
    assert loaded(text) == yaml.safe_load(text)
    assert loaded("") is None
    many = "- [x]\n" * (MAX_NODES // 2 - 1)
    assert len(loaded(many)) == MAX_NODES // 2 - 1
    node = composed(text)
    assert node is not None
    (_, value) = node.value[1]
    assert text[value.start_mark.index : value.end_mark.index] == "{<<: *a, x: no}"
