"""The decision record: what consumers of `<pipeline>.decisions` read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

_FIRST_MS = -62_135_596_800_000
_LAST_MS = 253_402_300_799_999

DECISION_SCHEMA = 1
"""Version of the record's form: it is raised when a field is taken away or means something else. A
field that is added is none: readers pass over what they do not know."""

ATTEMPT_HEADER = "x-redrive-attempt"
"""Header of a decision about an event that was redriven: which attempt it was."""

ORIGIN_HEADER = "x-origin"
"""Header of a source record that is a copy of another pipeline's: the `source_id` of the record
that the producer wrote. It stays what it was if the copy is copied."""

MAX_SOURCE_ID = 249 + 2 * 20
"""Bytes of a `source_id`; the name of a topic has 249 at most."""

Missing = Literal["failed", "down", "late", "unknown"]
Share = Annotated[float, Field(ge=0, le=1 + 1e-9)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Contribution(_Frozen):
    """What one stage adds to the score: contribution = weight · signal."""

    signal: Share
    weight: Share
    contribution: Share
    model: str
    digest: str
    variant: str


class Source(_Frozen):
    """The coordinates of the source record: an event's identity."""

    topic: str
    partition: Annotated[int, Field(ge=0, lt=2**31)]
    offset: Annotated[int, Field(ge=0, le=2**62)]

    @classmethod
    def of(cls, text: bytes) -> Source | None:
        """What a `source_id` names; None for anything else.

        >>> Source.of(b"card-fraud.events/3/812")
        Source(topic='card-fraud.events', partition=3, offset=812)
        >>> Source.of(b"elsewhere") is None
        True
        """
        try:
            topic, partition, offset = text.decode().rsplit("/", 2)
            return cls(topic=topic, partition=int(partition), offset=int(offset))
        except ValueError:  # pydantic's too
            return None


class Provenance(_Frozen):
    """What decided, to the byte, besides the models: each by the digest of its content.

    Quorum, deadline and `late:` stand in the pipeline file, so its digest is theirs.
    """

    pipeline_file: str
    """Of the pipeline file that the weighting agent ran."""
    policy: str
    """Of the policy, see `topics.pipeline.Policy.content`: a promoted one need not be the file's,
    and its version is a number that people write."""
    weights: str | None = None
    """Of the card of learned weights; None for weights fixed in the pipeline file."""
    no_deadline: bool = False
    """The agent ran with `--no-deadline`, whatever the file says of late stages."""


class Decision(_Frozen):
    """One decision. Always: score = Σ contribution, and the weights sum to 1."""

    schema_version: Annotated[int, Field(ge=0, alias="schema")] = 0
    """SCHEMA of the version that wrote it; 0 from before there was one, which is read alike."""
    event_id: str
    pipeline: str
    decision: str
    decided_by: Literal["score", "late"] = "score"
    """late: some stage had not answered by the deadline, and the pipeline file has a decision for
    that; there is no score then."""
    explored: bool = False
    """It was taken by chance instead of what the policy says, to know the outcome: `policy:
    explore:` in the pipeline file."""
    instead_of: str | None = None
    """What the policy says of the score, where it was explored."""
    propensity: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The probability of this decision, given the score; there where exploration applies to the
    event, explored or not. Outcomes are weighed by its inverse."""
    score: Share | None
    contributions: dict[str, Contribution]
    degraded: bool
    """Some stage gave no signal; the weights are those of the rest, renormalised."""
    missing: list[str]
    missing_because: dict[str, Missing] = Field(default_factory=dict)
    """Each missing stage, and whether it failed on the event, was down, or was late."""
    weights: Annotated[int, Field(ge=0)]
    """Version of the weights; 0 for weights fixed in the pipeline file."""
    policy: str
    quarantined: list[str] = Field(default_factory=list)
    """Stages that weigh nothing because they fail, or say the same of every event: the weights
    with that version are without them. Their signals are still among the contributions."""
    provenance: Provenance | None = None
    """None from before decisions had it."""
    early: bool = False
    """The event did not wait for a source partition that was down: its past may be incomplete."""
    clipped: bool = False
    """`event_time` is when the event was published, as its own was later than can be."""
    source: Source
    origin: Source | None = None
    """Where the producer wrote the event, if the source record is a copy of that one; see
    `agents.rollout.switch`."""
    event_time: str
    decided_at: str
    latency_ms: Annotated[float, Field(ge=0)]

    @property
    def by_policy(self) -> str:
        """What is decided without exploration."""
        return self.instead_of or self.decision

    @property
    def event(self) -> Source:
        """Which event it is about, whatever pipeline has decided it: where the producer wrote."""
        return self.origin or self.source


def source_id(topic: str, partition: int, offset: int) -> str:
    """Source coordinates as one word: the CloudEvents `id` of a decision."""
    return f"{topic}/{partition}/{offset}"


def source_of(headers: Sequence[tuple[str, bytes]]) -> tuple[str, int, int]:
    """The source coordinates of a decision record, from its `ce_id` header.

    Raises KeyError or ValueError when the headers are not those of a decision.
    """
    topic, partition, offset = (dict(headers)["ce_id"] or b"").decode().rsplit("/", 2)
    return topic, int(partition), int(offset)


def attempt_of(headers: Sequence[tuple[str, bytes]]) -> int:
    """Which attempt at the event ended in this decision: 1, or more when it was redriven.

    Raises ValueError when the header is not a number.
    """
    for name, value in headers:  # no dict: every decision of an audit is asked
        if name == ATTEMPT_HEADER:
            return int(value or b"")  # a header's value may be null
    return 1


def rfc3339_time(milliseconds: int) -> str:
    """Milliseconds since 1970 as an RFC 3339 time in UTC.

    Times outside the years 1 to 9999 have no such form: the nearest one is given.

    >>> rfc3339_time(1522540831000)
    '2018-04-01T00:00:31.000Z'
    """
    return rfc3339_times(np.array([milliseconds]))[0]


def rfc3339_times(milliseconds: NDArray[np.int64]) -> list[str]:
    """Like `rfc3339_time`, for many times (N,) at once."""
    inside = np.clip(milliseconds, _FIRST_MS, _LAST_MS).astype("datetime64[ms]")
    texts: list[str] = np.datetime_as_string(inside, timezone="UTC").tolist()
    return texts
