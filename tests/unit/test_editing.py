"""Dead letters are mended by a jq program, or left as they are."""

from __future__ import annotations

import builtins
from typing import Any

import orjson
import pytest

from agents.redrive.preparation import BadFilter, Edit, EditFailed
from topics.errors import MissingExtra


def test_a_filter_makes_one_object_of_one_object() -> None:
    edited = Edit(".amount |= tonumber")(b'{"id": "a", "amount": "57.16"}')
    assert orjson.loads(edited) == {"id": "a", "amount": 57.16}


@pytest.mark.parametrize(
    ("program", "value", "said"),
    [
        (".amount |= tonumber", b'{"amount": "much"}', "cannot be parsed"),
        (".", b"not json", "the filter fails"),
        (".", b"\xff", "the filter fails"),
        (".", None, "nothing"),
        (".a", b'{"a": 1}', "yields int"),
        (".[]", b'{"a": {}, "b": {}}', "yields dict, dict"),
        ("empty", b"{}", "yields nothing"),
        (".", b"{} {}", "yields dict, dict"),
    ],
)
def test_whatever_does_not_come_out_as_one_object_is_left(
    program: str, value: bytes | None, said: str
) -> None:
    with pytest.raises(EditFailed, match=said):
        Edit(program)(value)


def test_a_program_that_is_not_jq_is_one_clear_line() -> None:
    with pytest.raises(BadFilter, match="is no jq program: jq: error: syntax error") as caught:
        Edit(".a |||")
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without_jq(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "jq":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_jq)
    with pytest.raises(MissingExtra, match=r"anabranch\[redrive\]"):
        Edit(".")
