"""What came from outside, made fit for a terminal: events, keys, headers, names, others' files.

A terminal takes some characters for commands: escape sequences (ESC, and the C1 controls, which do
the same), carriage returns and line ends, with which a text forges lines of its own, and marks of
direction, which show it in another order. Here they are spelled out. Text for people goes through
`printable`, JSON through `printable_json`; commands print by `agents.commands.terminal`.
"""

from __future__ import annotations

import json
from unicodedata import category

import orjson

_SPACES = "Zs"
"""Spaces of other scripts, which Python counts among what is not printable."""


def printable(text: str) -> str:
    r"""*text* on one line, with what is no plain character spelled as Python does.

    >>> print(printable("a\x1b[2J\r\nb \x9b \u202e c é 漢"))
    a\x1b[2J\r\nb \x9b \u202e c é 漢
    """
    if text.isprintable():
        return text
    return "".join(
        character if _is_plain(character) else character.encode("unicode_escape").decode()
        for character in text
    )


def printable_json(document: str | bytes) -> str:
    r"""A JSON document that says the very same; what is no plain character is escaped in it.

    Line ends between its parts stay.

    >>> print(printable_json('{"a": "\x9b\u202e\x7f é"}'))
    {"a": "\u009b\u202e\u007f é"}
    """
    text = document.decode() if isinstance(document, bytes) else document
    if text.isprintable():
        return text
    return "".join(
        character if character == "\n" or _is_plain(character) else json.dumps(character)[1:-1]
        for character in text
    )


def readable(content: bytes | None) -> object:
    """What a record holds, for a JSON document: its JSON, else its text, None for nothing.

    JSON that is nested more deeply than can be written again is text too.
    """
    if content is None:
        return None
    try:
        value: object = orjson.loads(content)
        orjson.dumps([[[value]]])  # where it is put in
    except (ValueError, TypeError):
        return content.decode(errors="replace")
    return value


def _is_plain(character: str) -> bool:
    return character.isprintable() or category(character) == _SPACES
