"""Text from outside, as a terminal gets it."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from agents.commands.labelled_events import training_rows
from agents.commands.terminal import PlainFormatter, Terminal
from models.data.errors import DatasetError
from topics.errors import AnabranchError
from topics.pipeline.file import PipelineFileError, find_pipeline, load_pipeline
from topics.printable import printable, printable_json, readable

CARD_FRAUD = load_pipeline(find_pipeline("card-fraud")).pipeline
HOSTILE = (
    "a\x1b]0;title\x07\x1b[2J\r\nerror: all is lost\x9b31m\u202egnp.exe\u2066\u2028 [/b][red]:boom:"
)
OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""What no terminal may get, line ends aside."""


@given(st.text())
def test_any_text_becomes_one_line_of_plain_characters(text: str) -> None:
    assert not OBEYED.search(printable(text))
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize("text", ["", "a é 漢字\u3000\u00a0", "\\x1b [red] 🙂"])
def test_plain_text_stays(text: str) -> None:
    assert printable(text) == text


@given(st.recursive(st.none() | st.integers(0, 9) | st.text(), st.lists))
def test_json_says_the_same_and_holds_nothing_that_is_obeyed(value: object) -> None:
    for document in (
        json.dumps(value, ensure_ascii=False, indent=1),
        json.dumps(value),
    ):
        safe = printable_json(document)
        assert json.loads(safe) == value
        assert not OBEYED.search(safe.replace("\n", ""))


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (None, None), (b'{"a": 1}', {"a": 1}), (b"null", None), (b"", ""), (b"\xff{", "\ufffd{"),
        (b"[" * 500 + b"]" * 500, "[" * 500 + "]" * 500), (b"NaN", "NaN"),
    ],
)  # fmt: skip
def test_what_a_record_holds_can_always_be_written_again(
    content: bytes | None, value: object
) -> None:
    assert readable(content) == value
    orjson.dumps({"record": {"value": readable(content)}})


def shown(*what: object) -> str:
    console = Terminal(file=io.StringIO(), width=200, force_terminal=False)
    console.print(*what)
    return str(console.file.getvalue())  # type: ignore[attr-defined]  # a StringIO


def test_a_string_and_a_tables_cells_are_plain_lines() -> None:
    table = Table(HOSTILE, box=None)
    table.add_row(HOSTILE)
    for text, lines in ((shown(f"name: {HOSTILE}"), 1), (shown(table), 2)):
        assert not OBEYED.search(text.replace("\n", ""))
        assert len(text.splitlines()) == lines, "none of the lines is theirs"
        assert "[/b][red]:boom:" in text, "brackets are brackets"


def test_a_log_record_is_one_line_and_a_traceback_holds_no_escapes() -> None:
    formatter = PlainFormatter("%(levelname)s %(name)s: %(message)s")
    record = logging.makeLogRecord({"name": "x", "levelname": "WARNING", "msg": HOSTILE})
    assert formatter.format(record) == f"WARNING x: {printable(HOSTILE)}"
    try:
        raise ValueError(HOSTILE)
    except ValueError as exc:
        told = formatter.formatException((type(exc), exc, exc.__traceback__))
    assert "Traceback" in told
    assert not OBEYED.search(told.replace("\n", ""))


def test_an_error_is_one_line_and_a_pipeline_files_are_one_for_each_mistake() -> None:
    assert AnabranchError(HOSTILE).lines == [f"error: {HOSTILE}"]
    error = PipelineFileError(Path("p.yaml"), [(1, HOSTILE, "unknown field"), (2, "b", "no")])
    assert error.lines == [f"error: p.yaml:1: {HOSTILE}: unknown field", "p.yaml:2: b: no"]


def test_a_bar_of_a_file_shows_its_name_as_plain_characters() -> None:
    shown = io.StringIO()
    bars = Progress(console=Console(file=shown, force_terminal=False, width=120))
    with bars, pytest.raises(DatasetError):
        training_rows(CARD_FRAUD, "\x1b[31m\u202e[/b].csv", rows=1, seed=0, bars=bars)
    assert "events of \\x1b[31m\\u202e[/b].csv"[-24:] in shown.getvalue()
    assert not OBEYED.search(shown.getvalue().replace("\n", ""))
