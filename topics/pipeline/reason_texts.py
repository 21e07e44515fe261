"""The texts of reasons: what they may name, and that none says what is sensitive.

A text of a group may show values of the event: columns of recorded outputs, by name, or as
`component.column` where two components have one of that name, and fields, as `event.field`, or by
name where no column is called so. No text has the value of a field that is marked `sensitive:
true`, nor of a feature of it. What a component of one's own says has no names, so no text has it.
Of the key of an entity no feature of its past is made: these count and average other fields.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from topics.pipeline.explain_settings import ReasonTexts
from topics.pipeline.explanation_groups import explained_groups
from topics.pipeline.text_template import Template

if TYPE_CHECKING:
    from topics.pipeline.schema import ComponentSpec, Pipeline

ENGLISH = "en"
LANGUAGES: Mapping[str, ReasonTexts] = {
    ENGLISH: ReasonTexts(
        score="{decision}: score {score:.3f}, {base:.3f} is usual", higher="higher by {groups}",
        lower="lower by {groups}", unmoved="no group moves it", conjunction="and", decimal=".",
        explored="{decision} (explored, {instead_of} by its score)",
    ),
    "de": ReasonTexts(
        score="{decision}: Score {score:.3f}, üblich ist {base:.3f}", higher="höher durch {groups}",
        lower="niedriger durch {groups}", unmoved="keine Gruppe bewegt ihn", conjunction="und",
        decimal=",", explored="{decision} (erprobt, nach dem Score {instead_of})",
    ),
}  # fmt: skip
"""What reasons are put together of, in languages that need not be told."""
_WORDS = ("score", "higher", "lower", "unmoved", "conjunction")
_OWN_WORDS = (*_WORDS, "explored")
"""The last one is in English where a language does not say it."""
_MAY_NAME = {
    "score": ("decision", "score", "base"), "higher": ("groups",), "lower": ("groups",),
    "explored": ("decision", "instead_of"),
}  # fmt: skip
_EVENT = "event"

Location = tuple[str | int, ...]


class ColumnValue(NamedTuple):
    """A value of an event: a column of what a component said of it."""

    component: str
    place: int


class FieldValue(NamedTuple):
    """A value of an event: one of its fields."""

    field: str


class NamedValues(NamedTuple):
    """What texts may name."""

    values: Mapping[str, ColumnValue | FieldValue]
    ambiguous: Mapping[str, list[str]]
    """Names of several columns → what to say instead."""
    sensitive: Mapping[str, str]
    """Names that no text may have → the field that they are made of, or are."""

    @classmethod
    def of(cls, pipeline: Pipeline) -> NamedValues:
        """Those of a pipeline file that has been checked in all else."""
        values: dict[str, ColumnValue | FieldValue] = {}
        sensitive: dict[str, str] = {}
        columns = defaultdict[str, list[str]](list)
        for spec in pipeline.components:
            for place, (column, made_of) in enumerate(_columns(pipeline, spec)):
                full = f"{spec.name}.{column}"
                values[full] = ColumnValue(spec.name, place)
                columns[column].append(full)
                if made_of is not None:
                    sensitive[full] = made_of
        for column, names in columns.items():
            if len(names) == 1:
                values[column] = values[names[0]]
            if marked := [sensitive[name] for name in names if name in sensitive]:
                sensitive[column] = marked[0]
        for name, field in pipeline.event.fields.items():
            names = [f"{_EVENT}.{name}", *([name] if name not in columns else [])]
            if field.type != "vector":
                values |= dict.fromkeys(names, FieldValue(name))
            if field.sensitive:
                sensitive |= dict.fromkeys(names, name)
        several = {column: names for column, names in columns.items() if len(names) > 1}
        return cls(values, several, sensitive)


def texts_of(texts: ReasonTexts, group: str) -> list[str]:
    """What may be said of a group, the first choice first."""
    given = texts.groups.get(group, [])
    return [given] if isinstance(given, str) else given


def event_fields(pipeline: Pipeline) -> list[str]:
    """Event fields that some text shows: for these alone events have to be read."""
    values = NamedValues.of(pipeline).values
    named = (values.get(name) for _, template in _group_templates(pipeline)
             for name in template.names)  # fmt: skip
    return [*dict.fromkeys(each.field for each in named if isinstance(each, FieldValue))]


def _group_templates(pipeline: Pipeline) -> Iterator[tuple[str, Template]]:
    for texts in pipeline.explain.reasons.values():
        for group in texts.groups:
            for text in texts_of(texts, group):
                yield group, Template.of(text)


def wrong_texts(pipeline: Pipeline) -> Iterator[tuple[Location, str]]:
    """Every mistake in the texts of `explain: reasons:`, and where it is in there."""
    if not pipeline.explain.reasons:
        return
    groups, named = explained_groups(pipeline), NamedValues.of(pipeline)
    for language, texts in pipeline.explain.reasons.items():
        yield from _wrong_words(language, texts)
        for group, given in texts.groups.items():
            at: Location = (language, "groups", group)
            if group not in groups:
                yield at, f"no group {group!r}; known: {', '.join(groups)}"
            for place, text in enumerate(texts_of(texts, group)):
                where = at if isinstance(given, str) else (*at, place)
                for message in _wrong_text(pipeline, text, named):
                    yield where, message


def _wrong_words(language: str, texts: ReasonTexts) -> Iterator[tuple[Location, str]]:
    lacking = [word for word in _WORDS if getattr(texts, word) is None]
    if language not in LANGUAGES and lacking:
        said = ", ".join("and" if word == "conjunction" else word for word in lacking)
        known = ", ".join(LANGUAGES)
        yield (language,), f"give {said} too: only {known} have words of their own"
    for word in _OWN_WORDS:
        if (text := getattr(texts, word)) is None:
            continue
        at = (language, "and" if word == "conjunction" else word)
        try:
            template = Template.of(text)
        except ValueError as exc:
            yield at, str(exc)
            continue
        for name in template.names:
            if name not in (may_name := _MAY_NAME.get(word, ())):
                known = ", ".join(f"{{{one}}}" for one in may_name) or "nothing"
                yield at, f"{name!r} is not known here; known: {known}"
        if word in ("higher", "lower") and "groups" not in template.names:
            yield at, "it does not say {groups}"
        for name in template.numbers & {"decision", "instead_of", "groups"}:
            yield at, f"{name!r} is no number: leave its format out"


def _wrong_text(pipeline: Pipeline, text: str, named: NamedValues) -> Iterator[str]:
    try:
        template = Template.of(text)
    except ValueError as exc:
        yield str(exc)
        return
    for name in template.names:
        if name in named.sensitive:
            field = named.sensitive[name]
            itself = name.removeprefix(f"{_EVENT}.") == field
            why = "" if itself else f"is made of {field!r}, which "
            yield f"{name!r} {why}is sensitive: no text may say it"
        elif name in named.ambiguous:
            names = " or ".join(named.ambiguous[name])
            yield f"{name!r} is a column of several components: say {names}"
        elif name not in named.values:
            yield f"no column or event field {name!r}; known: {', '.join(_shortest(named))}"
        elif name in template.numbers and not _is_number(pipeline, named.values[name]):
            yield f"{name!r} is no number: leave its format out"


def _shortest(named: NamedValues) -> list[str]:
    """The names that may be said, without longer ones of the same value."""
    shortest: dict[ColumnValue | FieldValue, str] = {}
    for name, value in named.values.items():
        if name not in named.sensitive and "=" not in name:
            shortest[value] = min(name, shortest.get(value, name), key=len)
    return [*shortest.values()]


def _is_number(pipeline: Pipeline, value: ColumnValue | FieldValue) -> bool:
    if isinstance(value, ColumnValue):
        return True
    return pipeline.event.fields[value.field].type in ("number", "integer")


def _columns(pipeline: Pipeline, spec: ComponentSpec) -> Iterator[tuple[str, str | None]]:
    """The columns of a component's features, and which sensitive field each is made of."""
    for feature in spec.features or ():
        field = pipeline.event.fields.get(feature.of)
        made_of = feature.of if field is not None and field.sensitive else None
        yield from ((column, made_of) for column in feature.columns)
