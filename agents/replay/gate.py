"""A gate: a condition on the figures of a what-if, such as `changed <= 0.5% and cost <= 0`.

    condition   = conjunction { "or" conjunction }
    conjunction = comparison { "and" comparison }
    comparison  = "(" condition ")" | figure operator number
    operator    = "<=" | "<" | ">=" | ">" | "=="
    number      = digits with a sign, a decimal point and a percent sign, if wanted

A condition is no program: it is parsed here, and nothing of it is evaluated by Python. A figure
that cannot be known, such as a cost without outcomes, makes the whole condition unknown.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agents.replay.errors import BadCondition, UnknownFigure
from agents.replay.what_if_report import Quality, WhatIfReport

_LONGEST = 500
_DEEPEST = 20
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_TOKEN = re.compile(r"\s*(?:(?P<operator>[<>=!]+)|(?P<bracket>[()])|(?P<word>[^\s<>=!()]+))")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)%?", re.ASCII)
_QUALITIES = ("precision", "recall", "average_precision", "auc", "cost")
FIGURES = (
    "changed", "changed.FROM-TO", "dead", "shift", "shift.largest", "decided", "outcomes",
    *(f"{name}{side}" for name in _QUALITIES for side in ("", ".before", ".after", ".change")),
)  # fmt: skip
"""What can be named."""
MOST_AS_RECORDED = 0.01
"""Share of the decisions that may keep the signals of the model that is to be replaced, or end in
none, before figures that they are left out of are unknown."""


class _Token(NamedTuple):
    kind: str
    text: str
    at: int
    """Its place in the condition, from 1 on."""


class Comparison(NamedTuple):
    """A figure held against a number."""

    figure: str
    operator: str
    number: float
    text: str
    """As it was written."""


@dataclass(frozen=True, slots=True)
class _Joined:
    """Parts of which all, or any, have to be true."""

    every: bool
    parts: tuple[Comparison | _Joined, ...]


@dataclass(frozen=True, slots=True)
class GateResult:
    """What a condition comes to."""

    passed: bool
    figures: Mapping[str, float | None]
    """Those that are named; None for one that cannot be known."""


class Gate:
    """A condition, once it was understood. Raises BadCondition."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self._condition = _Parser(self.text).condition()

    @property
    def comparisons(self) -> list[Comparison]:
        """All of them, in order."""
        return [*_comparisons(self._condition)]

    def judge(self, figures: Mapping[str, float | None]) -> GateResult:
        """Whether the condition is true of *figures*; not if one cannot be known.

        Raises UnknownFigure for a name that is none of them.
        """
        named = {each.figure: figures.get(each.figure) for each in self.comparisons}
        if strange := [name for name in named if name not in figures]:
            raise UnknownFigure(strange[0], [*figures])
        known = {name: value for name, value in named.items() if value is not None}
        passed = len(known) == len(named) and _is_true(self._condition, known)
        return GateResult(passed, named)


def figures_of(report: WhatIfReport) -> dict[str, float | None]:
    """The figures of a report by the names that conditions use.

    Shares and costs are numbers; `cost` alone is what an event costs more, the other qualities
    alone are those after the change. None is known of a change that could not be computed for more
    than MOST_AS_RECORDED of the decisions; no quality where more than that would have no decision.
    """
    counts: dict[str, float | None] = {
        "decided": report.events.decided,
        "outcomes": 0 if report.outcomes is None else report.outcomes.known,
    }
    figures = _of_the_change(report)
    if report.events.as_recorded > MOST_AS_RECORDED * report.events.decided:
        figures = dict.fromkeys(figures)
    return figures | counts


def _of_the_change(report: WhatIfReport) -> dict[str, float | None]:
    dead = sum(flow.share for flow in report.flows if flow.after == report.no_quorum)
    figures: dict[str, float | None] = {
        "changed": report.changed_share,
        "dead": dead,
        "shift": None if report.scores is None else report.scores.mean_absolute,
        "shift.largest": None if report.scores is None else report.scores.largest_absolute,
    }
    figures |= {
        f"changed.{before}-{after}": 0.0
        for before in report.decisions
        for after in report.decisions
        if before != after
    }
    figures |= {
        f"changed.{flow.before}-{flow.after}": flow.share
        for flow in report.flows
        if flow.before != flow.after
    }
    # What those have to show for that would have no decision, nobody knows.
    outcomes = None if dead > MOST_AS_RECORDED else report.outcomes
    for name in _QUALITIES:
        before = None if outcomes is None else _quality(outcomes.before, name)
        after = None if outcomes is None else _quality(outcomes.after, name)
        change = None if before is None or after is None else after - before
        alone = change if name == "cost" else after
        figures |= {name: alone, f"{name}.before": before, f"{name}.after": after,
                    f"{name}.change": change}  # fmt: skip
    return figures


def _quality(quality: Quality, name: str) -> float | None:
    value: float | None = getattr(quality, name)
    return value


class _Parser:
    """Reads a condition from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        if len(text) > _LONGEST:
            raise BadCondition(text[:_LONGEST], _LONGEST, f"at most {_LONGEST} characters")
        self._tokens = [*_tokens(text)]
        self._next, self._depth = 0, 0

    def condition(self) -> Comparison | _Joined:
        condition = self._joined("or")
        if self._next < len(self._tokens):
            raise self._error("expected and, or, or the end")
        return condition

    def _joined(self, word: str) -> Comparison | _Joined:
        part = self._comparison if word == "and" else lambda: self._joined("and")
        parts = [part()]
        while self._peek().text == word:
            self._next += 1
            parts.append(part())
        return parts[0] if len(parts) == 1 else _Joined(word == "and", tuple(parts))

    def _comparison(self) -> Comparison | _Joined:
        if self._peek().text == "(":
            return self._in_brackets()
        name = self._take("word", "a figure")
        if not _is_figure(name.text):
            raise self._error_at(name, f"expected a figure ({', '.join(FIGURES)})")
        sign = self._take("operator", f"one of {' '.join(_OPERATORS)}")
        if sign.text not in _OPERATORS:
            raise self._error_at(sign, f"expected one of {' '.join(_OPERATORS)}")
        number = self._take("word", "a number such as 0.5% or -1.25")
        if not _NUMBER.fullmatch(number.text):
            raise self._error_at(number, "expected a number such as 0.5% or -1.25")
        value = float(number.text.removesuffix("%")) / (100 if number.text.endswith("%") else 1)
        text = f"{name.text} {sign.text} {number.text}"
        return Comparison(name.text, sign.text, value, text)

    def _in_brackets(self) -> Comparison | _Joined:
        self._next += 1
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(f"brackets are {_DEEPEST} deep at most")
        condition = self._joined("or")
        if self._peek().text != ")":
            raise self._error("expected ) here")
        self._next += 1
        self._depth -= 1
        return condition

    def _peek(self) -> _Token:
        if self._next < len(self._tokens):
            return self._tokens[self._next]
        return _Token("end", "", len(self._text) + 1)

    def _take(self, kind: str, what: str) -> _Token:
        token = self._peek()
        if token.kind != kind:
            raise self._error(f"expected {what}")
        self._next += 1
        return token

    def _error(self, expected: str) -> BadCondition:
        return self._error_at(self._peek(), expected)

    def _error_at(self, token: _Token, expected: str) -> BadCondition:
        return BadCondition(self._text, token.at, f"{expected}, not {token.text or 'the end'!r}")


def _tokens(text: str) -> list[_Token]:
    # Every character is one of the three kinds, or white space.
    return [
        _Token(
            str(match.lastgroup), match[str(match.lastgroup)], match.start(match.lastgroup or 0) + 1
        )
        for match in _TOKEN.finditer(text)
    ]


def _is_figure(name: str) -> bool:
    """By its form: which decisions there are is not known yet."""
    return name in FIGURES or (name.startswith("changed.") and "-" in name)


def _comparisons(condition: Comparison | _Joined) -> list[Comparison]:
    if isinstance(condition, Comparison):
        return [condition]
    return [each for part in condition.parts for each in _comparisons(part)]


def _is_true(condition: Comparison | _Joined, figures: Mapping[str, float]) -> bool:
    if isinstance(condition, Comparison):
        return _OPERATORS[condition.operator](figures[condition.figure], condition.number)
    parts = (_is_true(part, figures) for part in condition.parts)
    return all(parts) if condition.every else any(parts)
