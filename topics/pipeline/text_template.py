"""Texts with numbers in them: the only thing that a placeholder can do is to show a value.

`{amount}` is a value, `{amount / mean_30d}` one number by another, and both may have a format:
`:.2f` (decimals), `:,.0f` (with separators of thousands), `:.1%`. Nothing else is understood: no
attributes, no calls, no conversions, no widths; braces of one's own are `{{` and `}}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Self

from topics.printable import printable

Value = float | str
_NAME = r"[A-Za-z_][\w-]*(?:\.[A-Za-z_]\w*)?"
_PLACEHOLDER = re.compile(
    rf"\s*(?P<name>{_NAME})\s*(?:/\s*(?P<by>{_NAME})\s*)?(?::(?P<format>,?\.[0-6][f%]))?\s*",
    re.ASCII,
)
_PARTS = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|[{}])")
_PLAIN = ".6g"
_SHOWN = 64
"""Characters of a placeholder that is none."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A place where a value is shown, or one number by another."""

    name: str
    by: str | None = None
    format: str = ""

    def shown(self, values: Mapping[str, Value], decimal: str) -> str | None:
        """The value as text; None where it is not known, or is no number that it has to be."""
        value = values.get(self.name)
        if isinstance(value, str):
            return None if self.by or self.format else value
        if value is not None and self.by is not None:
            divisor = values.get(self.by)
            value = value / divisor if divisor and not isinstance(divisor, str) else None
        if value is None or not isfinite(value):
            return None
        text = format(value, self.format or _PLAIN)
        return text if decimal == "." else text.translate(_SWAPPED)


_SWAPPED = str.maketrans(".,", ",.")


@dataclass(frozen=True, slots=True)
class Template:
    """A text that was read, part by part."""

    parts: tuple[str | Placeholder, ...]

    @classmethod
    def of(cls, text: str) -> Self:
        """The template that *text* is. Raises ValueError, which says what is wrong.

        >>> Template.of("{amount:.2f}: {amount / mean:.1f} × the mean").names
        ['amount', 'mean']
        >>> Template.of("{amount!r}")
        Traceback (most recent call last):
        ValueError: {amount!r}: say {name} or {name / name}, with :.2f, :,.0f or :.1% behind it
        """
        parts: list[str | Placeholder] = []
        for part in filter(None, _PARTS.split(text)):
            if part in ("{{", "}}"):
                parts.append(part[0])
            elif part in ("{", "}"):
                raise ValueError(f"a brace is left open: write {part * 2} for one of the text")
            elif part.startswith("{"):
                parts.append(_placeholder(part))
            else:
                parts.append(part)
        return cls(tuple(parts))

    @property
    def names(self) -> list[str]:
        """What it shows, each once."""
        names = [name for part in self.parts if isinstance(part, Placeholder)
                 for name in (part.name, part.by) if name is not None]  # fmt: skip
        return [*dict.fromkeys(names)]

    @property
    def numbers(self) -> set[str]:
        """Those of its names that have to be numbers."""
        return {
            name
            for part in self.parts
            if isinstance(part, Placeholder) and (part.by or part.format)
            for name in (part.name, part.by)
            if name is not None
        }

    def filled(self, values: Mapping[str, Value], decimal: str = ".") -> str | None:
        """The text with *values*; None where one of them is not known.

        >>> text = Template.of("{amount:.2f}: {amount / mean:.1f} × the mean")
        >>> text.filled({"amount": 412.0, "mean": 45.3})
        '412.00: 9.1 × the mean'
        >>> text.filled({"amount": 412.0, "mean": 0.0}) is None
        True
        """
        shown = [part if isinstance(part, str) else part.shown(values, decimal)
                 for part in self.parts]  # fmt: skip
        known = [text for text in shown if text is not None]
        return "".join(known) if len(known) == len(shown) else None


def _placeholder(part: str) -> Placeholder:
    match = _PLACEHOLDER.fullmatch(part[1:-1])
    if match is None:
        shown = printable(part[:_SHOWN])
        advice = "say {name} or {name / name}, with :.2f, :,.0f or :.1% behind it"
        raise ValueError(f"{shown}: {advice}")
    return Placeholder(match["name"], match["by"], match["format"] or "")
