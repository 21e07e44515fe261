"""What an event is: its fields, its roles, its later outcome, and the data files it comes from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from topics.pipeline.fields import (
    Choices,
    Duration,
    DurationOrNone,
    FieldType,
    Name,
    Scalar,
    Strict,
    duration_ms,
)

NUMBER_PICTURE = (
    r"^(?P<before>[^0-9]{0,8}?)1(?P<group>[,. ']?)234(?:(?P<point>[.,])56)?(?P<behind>[^0-9]{0,8})$"
)
"""How a data file writes 1234.56, with what stands before and behind its numbers."""


class EventField(Strict):
    """One typed field of an event.

    NaN and infinity are never valid numbers, nor is what is beyond float32 (±3.4e38), in which
    models compute, unless minimum or maximum say so. An integer may be written 3 or 3.0; 3.5 is
    an error. Null in an optional field is a missing value. A timestamp is an RFC 3339 time, also
    with t and z in lower case, a space for the T, a leap second, any number of decimals; without
    an offset it is UTC.
    """

    type: FieldType
    minimum: float | None = None
    """Smallest value of an integer or a number."""
    maximum: float | None = None
    max_length: Annotated[int, Field(ge=1)] = 256
    """Longest string, in characters."""
    length: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Exact number of elements of a vector."""
    choices: Choices | None = None
    """The only values that a string may have."""
    optional: bool = False
    """An event without the field, or with null in it, is valid; components see NaN or an empty
    string."""
    sensitive: bool = False
    """No text of an explanation may say its value, nor that of a feature of it."""

    @model_validator(mode="after")
    def _options_fit_the_type(self) -> Self:
        if self.type == "vector" and self.length is None:
            raise ValueError("a vector needs its length, for example length: 30")
        if self.type != "vector" and self.length is not None:
            raise ValueError(f"length is for vectors; a {self.type} has none")
        if self.choices is not None and self.type != "string":
            raise ValueError(f"choices are for strings; a {self.type} has none")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is above maximum {self.maximum:g}")
        return self


class EventSchema(Strict):
    """The event that producers publish as JSON on `<pipeline>.events`."""

    id: str
    """The field that names the event to people."""
    key: str
    """The field whose value is the record key, so decides the partition."""
    time: str
    """The field with the event time, a timestamp (RFC 3339)."""
    lateness: Duration = "1h"
    """How far an event may lie behind its entity's newest and still count in windows."""
    future: Annotated[
        Duration,
        Field(
            description="How far an event's time may lie after its record's timestamp; after now, "
            "where that is more than an hour ahead of us, or was never set."
        ),
    ] = "5m"
    beyond_future: Annotated[
        Literal["refuse", "clip"],
        Field(
            description="What happens to an event beyond `future`. refuse: it is a dead letter, "
            "FutureEventTime. clip: it counts as of its record's timestamp, since it cannot have "
            "happened later, and its stage batches say so; where events of the past are published "
            "again, that is far ahead of them too."
        ),
    ] = "refuse"
    keys: Annotated[
        Literal["accept", "refuse", "rekey"],
        Field(
            description="What happens to events whose record key is not the value of `key`, or "
            "which are on another partition than Kafka's own partitioner gives that key. accept: "
            "nothing, they are counted, but windows by the event's key see one partition each. "
            "refuse: they are dead letters (MissingKey, InvalidKey, WrongPartition). rekey: "
            "windows by the event's key are repartitioned by that field, whatever the record key."
        ),
    ] = "accept"
    max_bytes: Annotated[int, Field(ge=64, le=64 * 2**20)] = 1_000_000
    """An event larger than this becomes a dead letter."""
    fields: Annotated[dict[Name | str, EventField], Field(min_length=1)]

    @model_validator(mode="after")
    def _roles_are_fields(self) -> Self:
        for role in ("id", "key", "time"):
            name = getattr(self, role)
            if name not in self.fields:
                raise ValueError(f"{role}: {name!r} is not one of the event's fields")
            if self.fields[name].optional:
                raise ValueError(f"{role}: {name!r} may not be optional")
        if self.fields[self.time].type != "timestamp":
            raise ValueError(f"time: {self.time!r} must have the type timestamp")
        for role in ("id", "key"):
            if self.fields[getattr(self, role)].type not in ("string", "integer"):
                raise ValueError(f"{role}: must be a string or an integer field")
        return self


OutcomeSource = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")
]


class Outcomes(Strict):
    """The true labels, published later on `<pipeline>.outcomes`."""

    delay: Duration = "7d"
    """How long after its event an outcome is known: features use none that is younger."""
    sources: Annotated[
        list[OutcomeSource],
        Field(
            description="Who says what came true, the strongest first: [chargeback, analyst, "
            "system]. Of several outcomes of an event the strongest counts, of equally strong ones "
            "the one that became known last. Sources that are not listed, and outcomes that name "
            "none, are equal, and weaker than all of these."
        ),
    ] = Field(default_factory=list)
    keep: Annotated[
        Duration | None,
        Field(
            description="How long after its event a decision waits for outcomes, and an outcome "
            "for its decision, in event time: what comes later is a dead letter on "
            "<pipeline>.outcomes.dead-letters. At least delay; by default as long as topics keep "
            "their records."
        ),
    ] = None
    most_awaiting: Annotated[
        int,
        Field(
            ge=1000,
            description="Decisions that a monitor keeps for their outcomes, on disk; with more, "
            "those of the oldest events go, and are counted.",
        ),
    ] = 5_000_000

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if len(set(self.sources)) < len(self.sources):
            raise ValueError("sources lists a source twice")
        if self.keep is not None and duration_ms(self.keep) < duration_ms(self.delay):
            raise ValueError(f"keep: {self.keep} is less than delay: {self.delay}")
        return self


class Retention(Strict):
    """How long the pipeline's topics keep their records, beyond what windows look back."""

    replay: Annotated[
        DurationOrNone,
        Field(
            description="The oldest event that can be decided again from the topics alone, with "
            "whole windows: an outage of workers that have lost their state may be as long. Topics "
            "keep what the longest window reaches back, outcomes' delay included, and this; 7 days "
            "at least."
        ),
    ] = "0d"


class CsvFormat(Strict):
    """How CSV files are written, where that is not UTF-8, commas and doubled quotes.

    What a file says itself goes first: a byte order mark, or a first line `sep=;`.
    """

    encoding: Annotated[
        str | None,
        Field(
            description="Of files that are not UTF-8: windows-1252, utf-16-le. A file that is "
            "UTF-8 all the same, or that has a byte order mark, is read as what it is."
        ),
    ] = None
    separator: Annotated[
        str | None,
        Field(
            min_length=1, max_length=1, pattern=r'^[^"\r\n\\]$',
            description="Between columns: one character. By default a comma, in .tsv a tab.",
        ),
    ] = None  # fmt: skip
    escape: Annotated[
        Literal["\\"] | None,
        Field(
            description="Before a quote within quotes, where quotes are not doubled: a backslash."
        ),
    ] = None

    @field_validator("encoding")
    @classmethod
    def _is_of_text(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                "".encode(name)
            except (LookupError, ValueError) as exc:
                raise ValueError(
                    f"{name!r} is no encoding of text; windows-1252, iso-8859-2 and utf-16-le are"
                ) from exc
        return name


class DataMapping(Strict):
    """How the columns of a data file map onto event fields and the label."""

    label: str | None = None
    """Column with the true outcome, 0 or 1 (or false/true, no/yes). Never published."""
    positive: Scalar = None
    """The label's value that counts as 1; every other value is 0, a row without one is not
    trained on."""
    columns: dict[str, str] = Field(default_factory=dict)
    """File column → event field; a column with a field's own name needs no entry."""
    missing_values: list[str] = Field(default_factory=list)
    """Text that stands for no value, beside the empty one: `NA`."""
    time_formats: dict[str, str] = Field(default_factory=dict)
    """Timestamp field → how the file writes it, where that is not ISO 8601: `epoch_s`,
    `epoch_ms`, `epoch_us`, `epoch_ns`, or a pattern such as `%d/%m/%Y` (UTC)."""
    number_formats: dict[
        str, Annotated[str, StringConstraints(max_length=40, pattern=NUMBER_PICTURE)]
    ] = Field(default_factory=dict)
    """Number or integer field → how the file writes 1234.56, where that is not so: `1.234,56`,
    `$1,234.56`, `1 234 €`, `1234.56%` (what stands before the sign is the number)."""
    missing_values_of: dict[str, list[str]] = Field(default_factory=dict)
    """Event field → text that stands for no value in its column alone."""
    csv: CsvFormat = Field(default_factory=CsvFormat)
    row_number: str | None = None
    """Event field that gets the row's number, from 1, for files without an id column."""
    published_at: str | None = None
    """Event field that gets the time of publishing, for files without event times. Training
    then deals the rows out at random, the same share of positives to every block."""

    @property
    def generated(self) -> list[str]:
        """The fields that no column holds."""
        return [name for name in (self.row_number, self.published_at) if name is not None]
