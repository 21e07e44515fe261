"""Redrive records as the version before wrote them: one for each event, and its outputs as JSON.

The original record is the Kafka record itself, with its key, value and headers; beside these stand
an `x-redrive` header, and an `x-redrive-output` header for each output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from topics.errors import WireError
from topics.kafka import Headers
from topics.records import Source, StageBatch, decode
from topics.redrive.record import MOST_ATTEMPTS, Ending, RedriveBatch, RedrivenEvent

PREFIX = "x-redrive"
OUTPUT = f"{PREFIX}-output"
REFUSED = f"{PREFIX}-refused"


class _Header(BaseModel):
    """What the `x-redrive` header says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    source: Source
    letter: Annotated[int, Field(ge=0, lt=2**62)]
    attempt: Annotated[int, Field(ge=2, le=MOST_ATTEMPTS)]
    published_ms: Annotated[int, Field(ge=-(2**62), le=2**62)]
    next: Annotated[str, Field(min_length=1, max_length=63)] | None
    end: Ending | None = None


def is_one(headers: Sequence[tuple[str, bytes]]) -> bool:
    """The record is of the version before, as far as it says."""
    try:
        header = orjson.loads(header_content(headers))
    except (WireError, orjson.JSONDecodeError):
        return False
    return isinstance(header, dict) and "letter" in header


def decode_event(
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
    *,
    outputs: bool = True,
) -> RedriveBatch:
    """The batch of one event that a record says; WireError, with the reason, for anything else."""
    try:
        header = _Header.model_validate_json(header_content(headers))
    except ValidationError as exc:
        raise refusal_of(exc) from exc
    if (header.next is None) == (header.end is None):
        raise WireError("not a redrive record: it has a next component or an end")
    source = header.source
    event = RedrivenEvent(
        source.partition, source.offset, header.letter, header.attempt, header.published_ms, key,
        value, producer_headers(headers),
    )  # fmt: skip
    contents = [content for name, content in headers if name == OUTPUT] if outputs else []
    known: dict[str, list[StageBatch]] = {}
    for content in contents:
        output = decode(content, {})
        known[output.component] = [output]
    refused = next((content for name, content in headers if name == REFUSED), None)
    batch = RedriveBatch(
        source.topic, source.partition, header.next, [event], known, header.end,
        None if refused is None else (refused or b"").decode(errors="replace"),
    )  # fmt: skip
    batch.check_outputs()
    return batch


def header_content(headers: Sequence[tuple[str, bytes]]) -> bytes:
    """The one `x-redrive` header; WireError where there are none or several."""
    contents = [content for name, content in headers if name == PREFIX]
    if len(contents) != 1:
        raise WireError(f"not a redrive record: {len(contents)} {PREFIX} headers")
    return contents[0] or b""


def refusal_of(exc: ValidationError) -> WireError:
    """What is wrong with a header, in a sentence."""
    error = exc.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, error["loc"]))
    return WireError(f"not a redrive record: {': '.join(filter(None, [where, error['msg']]))}")


def producer_headers(headers: Sequence[tuple[str, bytes]]) -> Headers:
    """The headers that the event's producer sent."""
    return [(name, content) for name, content in headers if not name.startswith(PREFIX)]
