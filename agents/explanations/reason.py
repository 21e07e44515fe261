"""An explanation as sentences for those who read cases: one in each language that is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

from topics.pipeline import (
    ENGLISH,
    LANGUAGES,
    ColumnValue,
    FieldValue,
    NamedValues,
    Pipeline,
    ReasonTexts,
    Template,
    Value,
    texts_of,
)

_MOST = 3
_LEAST_SHARE = 0.05
"""A group that moves the score less, of all that moves it, is not worth a word."""


class Facts(NamedTuple):
    """What a reason is about."""

    decision: str
    score: float
    base: float
    groups: Sequence[tuple[str, float]]
    """Group and what it adds, by rank."""
    instead_of: str | None = None
    """What the score leads to, where the decision was explored."""


class Reasons:
    """Puts facts into sentences, by the texts of a pipeline file.

    A value of the event is said only by a text of the file that names it; else a group has its
    name and what it adds, no more.
    """

    def __init__(
        self, texts: Mapping[str, ReasonTexts], named: Mapping[str, ColumnValue | FieldValue]
    ) -> None:
        self._languages = {name: _Language(name, each) for name, each in texts.items()}
        names = {name for each in self._languages.values() for name in each.names}
        self.wanted = {name: named[name] for name in names}
        """What the texts show: by the name that they have for it."""

    @classmethod
    def of(cls, pipeline: Pipeline) -> Self:
        """Those of a pipeline file; in English where it has none."""
        texts = pipeline.explain.reasons or {ENGLISH: ReasonTexts()}
        return cls(texts, NamedValues.of(pipeline).values)

    def said(self, facts: Facts, values: Mapping[str, Value]) -> dict[str, str]:
        """Language → sentence, the file's first language first; *values* by name, as `wanted`."""
        return {name: each.sentence(facts, values) for name, each in self._languages.items()}


class _Language:
    """The texts of one language, read."""

    def __init__(self, name: str, texts: ReasonTexts) -> None:
        own = LANGUAGES.get(name, LANGUAGES[ENGLISH])

        def word(attribute: str) -> Template:
            return Template.of(getattr(texts, attribute) or getattr(own, attribute))

        self._score, self._higher, self._lower = word("score"), word("higher"), word("lower")
        self._unmoved, self._conjunction = word("unmoved"), word("conjunction")
        self._explored = word("explored")
        self._decimal = texts.decimal or own.decimal or "."
        self._decisions = texts.decisions
        self._groups = {
            group: [Template.of(text) for text in texts_of(texts, group)] for group in texts.groups
        }

    @property
    def names(self) -> set[str]:
        """The values that the texts show."""
        return {
            name for texts in self._groups.values() for text in texts for name in text.names
        }  # fmt: skip

    def sentence(self, facts: Facts, values: Mapping[str, Value]) -> str:
        """The groups that matter, those with the greatest value first, and what they add.

        >>> groups = [("terminal's past", 0.61), ("amount", 0.2), ("time of day", -0.06)]
        >>> texts = ReasonTexts(groups={"amount": "amount {amount:.2f}"})
        >>> facts = Facts("decline", 0.76, 0.01, groups)
        >>> print(_Language("en", texts).sentence(facts, {"amount": 412.0}))
        decline: score 0.760, 0.010 is usual; higher by terminal's past (+0.610) and amount 412.00 \
(+0.200), lower by time of day (-0.060)
        """
        least = _LEAST_SHARE * sum(abs(value) for _, value in facts.groups)
        matter = [each for each in facts.groups if each[1] and abs(each[1]) >= least]
        up = [self._group(*each, values) for each in matter if each[1] > 0][:_MOST]
        down = [self._group(*each, values) for each in matter if each[1] < 0][:_MOST]
        moved = [
            self._filled(text, {"groups": self._listed(groups)})
            for text, groups in ((self._higher, up), (self._lower, down))
            if groups
        ]
        decision = self._decisions.get(facts.decision, facts.decision)
        if facts.instead_of is not None:
            by_policy = self._decisions.get(facts.instead_of, facts.instead_of)
            names: dict[str, Value] = {"decision": decision, "instead_of": by_policy}
            decision = self._filled(self._explored, names)
        score: dict[str, Value] = {
            "decision": decision, "score": facts.score, "base": facts.base,
        }  # fmt: skip
        said = ", ".join(moved) or self._filled(self._unmoved, {})
        return f"{self._filled(self._score, score)}; {said}"

    def _group(self, group: str, value: float, values: Mapping[str, Value]) -> str:
        texts = (text.filled(values, self._decimal) for text in self._groups.get(group, []))
        said = next((text for text in texts if text is not None), group)
        return f"{said} ({self._number(value)})"

    def _number(self, value: float) -> str:
        text = f"{value:+.3f}"
        return text if self._decimal == "." else text.replace(".", self._decimal)

    def _filled(self, template: Template, values: Mapping[str, Value]) -> str:
        return template.filled(values, self._decimal) or ""

    def _listed(self, groups: Sequence[str]) -> str:
        *others, last = groups
        if not others:
            return last
        return f"{', '.join(others)} {self._filled(self._conjunction, {})} {last}"
