"""Words of a pipeline file that YAML takes for something else: no and on, 007, 2018-04-01."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any, NamedTuple

import yaml

from topics.pipeline.checks import Finding, Location

_TAKEN_FOR = tuple(
    f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "null", "timestamp")
)
_KEY = "[key]"
"""Follows a key that is wrong in its location by pydantic."""


class _Word(NamedTuple):
    text: str
    value: object
    """What YAML makes of it."""


def unquoted(text: str, errors: list[Any]) -> dict[int, Finding]:
    """For those of pydantic's *errors* that quotes would mend: what to write, by their index.

    *text* is the file, which has been read before.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    words = dict(_words(node, ())) if node is not None else {}
    findings = {}
    for index, error in enumerate(errors):
        if error["type"] == "string_type":
            at = _place(words, error)
            if at is not None:
                place = at[:-1] if at[-1:] == (_KEY,) else at
                findings[index] = Finding(place, _advice(words[at]))
    return findings


def _place(words: dict[Location, _Word], error: Any) -> Location | None:
    loc = error["loc"]
    if _KEY not in loc:
        return loc if loc in words else None
    around, value = loc[: loc.index(_KEY) - 1], error["input"]
    return next(
        (
            at
            for at, word in words.items()
            if at[-1:] == (_KEY,) and at[:-2] == around
            if type(word.value) is type(value) and word.value == value
        ),
        None,
    )


def _words(node: yaml.Node, at: Location) -> Iterator[tuple[Location, _Word]]:
    """The scalars without quotes that are no strings; a key's place ends with `[key]`."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (((*at, key.value, _KEY), word) for _, word in _words(key, ()))
            yield from _words(value, (*at, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _words(value, (*at, index))
    elif isinstance(node, yaml.ScalarNode) and node.style is None and node.tag in _TAKEN_FOR:
        yield at, _Word(node.value, yaml.SafeLoader("").construct_document(node))


def _advice(word: _Word) -> str:
    if not word.text:
        return "has no value: give one"
    value = word.value
    if value is None or isinstance(value, bool):
        read = {None: "nothing", True: "true", False: "false"}[value]
    else:
        read = "a date" if isinstance(value, date) else f"the number {value}"
    return f'YAML reads {word.text} as {read}: put it in quotes, "{word.text}"'
