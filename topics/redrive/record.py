"""Errands: dead letters on their way through the pipeline again.

A record of `<pipeline>.redrive` is the original record (key, value, headers), and in headers of
its own what the errand is about: where the event came from, which component is `next`, and the
outputs that are known so far. Each component adds its own and writes the errand on; the weighting
agent ends it, and leaves a note that says how.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from topics.errors import WireError
from topics.kafka import Headers, Record
from topics.pipeline import WEIGH
from topics.records import Source, StageBatch
from topics.redrive.outputs import ErrandOutputs, component_of, contents_of

PREFIX = "x-redrive"
OUTPUT = f"{PREFIX}-output"
REFUSED = f"{PREFIX}-refused"

End = Literal["decision", "dead-letter"]
_Milliseconds = Annotated[int, Field(ge=-(2**62), le=2**62)]


class About(BaseModel):
    """What the `x-redrive` header says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    source: Source
    """The event's identity, as in every dead letter and decision."""
    letter: Annotated[int, Field(ge=0, lt=2**63)]
    """Offset of the dead letter that is redriven, in the source's partition."""
    attempt: Annotated[int, Field(ge=2, le=1000)]
    """The first was the event's ordinary way through the pipeline."""
    published_ms: _Milliseconds
    """Timestamp of the source record."""
    next: Annotated[str, Field(min_length=1, max_length=63)] | None
    """The component that is to deal with it; None in the note that it has ended."""
    end: End | None = None

    @model_validator(mode="after")
    def _ends_or_goes_on(self) -> Self:
        if (self.next is None) == (self.end is None):
            raise ValueError("an errand has a next component or an end")
        return self


@dataclass(frozen=True, slots=True)
class Errand:
    """A source record on its way again; it reads like a record of the events topic."""

    about: About
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    """The original ones."""
    outputs: Mapping[str, StageBatch] = field(default_factory=dict)
    """Of one row each, by component; absent in it where the component failed."""
    refused: str | None = None
    """Why it goes no further, and is to end in another dead letter: it has grown too large."""

    @property
    def offset(self) -> int:
        """The source offset."""
        return self.about.source.offset

    @property
    def partition(self) -> int:
        """The source partition."""
        return self.about.source.partition

    @property
    def timestamp(self) -> int:
        """When the source record was published, in milliseconds."""
        return self.about.published_ms

    def to(self, component: str) -> Errand:
        """The same errand, addressed to *component*."""
        return replace(self, about=self.about.model_copy(update={"next": component}))

    def with_output(self, batch: StageBatch) -> Errand:
        """The errand with one more output."""
        (content,) = contents_of(batch)
        return self.with_content(batch.component, content)

    def with_content(self, component: str, content: bytes) -> Errand:
        """The errand with one more output, which is encoded already."""
        known = ErrandOutputs.of(self.outputs)
        return replace(self, outputs=known.with_content(component, content))

    def refusal(self, reason: str) -> Errand:
        """It goes to the weighting agent without all that may be large, to be ended there."""
        return Errand(self.to(WEIGH).about, None, None, refused=reason)

    def ended(self, end: End) -> Errand:
        """The note that it has ended."""
        return Errand(self.about.model_copy(update={"next": None, "end": end}), None, None)


def encoded(errand: Errand, now_ms: int) -> Record:
    """The errand as a record."""
    headers: Headers = without_ours(errand.headers)
    headers.append((PREFIX, errand.about.model_dump_json().encode()))
    # As JSON: every output that is present is finite, and people can read what is known.
    contents = ErrandOutputs.of(errand.outputs).contents
    headers += [(OUTPUT, content) for content in contents.values()]
    if errand.refused is not None:
        headers.append((REFUSED, errand.refused.encode()))
    return Record(errand.key, errand.value, now_ms, headers)


def decoded(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> Errand:
    """The errand of a record; WireError, with the reason, for anything else."""
    errand = opened(key, value, headers)
    of = errand.about.source
    for batch in errand.outputs.values():
        if (batch.topic, batch.partition, *batch.rows.offsets.tolist()) != (
            of.topic, of.partition, of.offset,
        ):  # fmt: skip
            raise WireError(f"not an errand: its output of {batch.component} is of another event")
    return errand


def opened(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> Errand:
    """Like `decoded`, but its outputs are not looked at: asking for one may raise WireError."""
    about = about_of(headers)
    contents = {component_of(it): it for name, it in headers if name == OUTPUT}
    refused = next((it for name, it in headers if name == REFUSED), None)
    return Errand(
        about, key, value, without_ours(headers), ErrandOutputs(contents),
        None if refused is None else refused.decode(errors="replace"),
    )  # fmt: skip


def next_of(headers: Sequence[tuple[str, bytes]]) -> str | None:
    """Whom an errand is addressed to, as far as its record says; None for anything else.

    It costs a tenth of `about_of`: every component reads all errands of its partitions.
    """
    for name, content in headers:
        if name == PREFIX:
            try:
                about = orjson.loads(content or b"")
            except orjson.JSONDecodeError:
                return None
            component = about.get("next") if isinstance(about, dict) else None
            return component if isinstance(component, str) else None
    return None


def about_of(headers: Sequence[tuple[str, bytes]]) -> About:
    """What an errand is about; WireError, with the reason, when it does not say."""
    found = [content for name, content in headers if name == PREFIX]
    if len(found) != 1:
        raise WireError(f"not an errand: {len(found)} {PREFIX} headers")
    try:
        return About.model_validate_json(found[0] or b"")
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, error["loc"]))
        raise WireError(f"not an errand: {': '.join(filter(None, [where, error['msg']]))}") from exc


def without_ours(headers: Sequence[tuple[str, bytes]]) -> Headers:
    """The headers that the event's producer sent."""
    return [(name, content) for name, content in headers if not name.startswith(PREFIX)]
