"""Heartbeats: what a worker says of itself on its component's topic while it has no rows to write.

A join reads them among the stage batches, so it knows of each input whether it lives, and how far
it has come: whatever a heartbeat claims to have answered stands before it on the same partition.
They say no more than `topics.records.reports` do, and are read by joins; people read those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from topics.errors import WireError
from topics.kafka import Record
from topics.records.reports import State

HEARTBEAT_HEADER = "anabranch-heartbeat"
_VERSION = b"1"

Offset = Annotated[int, Field(ge=-1, le=2**62)]


class Heartbeat(BaseModel):
    """A sign of life of one component, for one source partition, and one lane if it has lanes."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer worker may say more

    component: Annotated[str, Field(max_length=63)]
    partition: Annotated[int, Field(ge=0, lt=2**31)]
    """The source partition."""
    lane: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    worker: Annotated[str, Field(max_length=200)]
    """Which process: one that is started again has another name."""
    state: State
    frontier: Offset = -1
    """The highest source offset that the topic has an answer for; -1: not known yet, or none."""
    waiting_for: list[Annotated[str, Field(max_length=200)]] = []
    down: bool = False
    """What it waits for is down."""
    tried: tuple[Offset, Offset] | None = None
    """First and last source offset of rows that it is about to run on."""

    def record(self, now_ms: int) -> Record:
        """The heartbeat as a record of the component's topic."""
        value = self.model_dump_json(exclude_defaults=True).encode()
        return Record(
            None,
            value,
            now_ms,
            [("content-type", b"application/json"), (HEARTBEAT_HEADER, _VERSION)],
        )


def heartbeat_of(value: bytes | None, headers: Mapping[str, bytes]) -> Heartbeat | None:
    """The heartbeat of a stage topic's record; None for one that is none.

    Raises WireError when the record says that it is one, but cannot be read.
    """
    if HEARTBEAT_HEADER not in headers:
        return None
    try:
        return Heartbeat.model_validate_json(value or b"")
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, error["loc"]))
        raise WireError(
            f"not a heartbeat: {': '.join(filter(None, [where, error['msg']]))}"
        ) from exc
