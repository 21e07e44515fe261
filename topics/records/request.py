"""Requests by a key of the caller's, on `<pipeline>.requests`: who publishes them, and where.

A *claim* says that a gateway is about to publish a request's events, a *placement* where they
stand. The order of a partition is the only arbiter: all records of a key are on the partition that
Kafka's own partitioner gives it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

REQUEST_HEADER = "x-request"
"""Header of an event that was published for a key: the digest of the key, and which event of the
request it is, as `DIGEST/NUMBER`."""

_Offset = Annotated[int, Field(ge=0, le=2**62)]
_Partition = Annotated[int, Field(ge=0, lt=2**31)]


class RequestRecord(BaseModel):
    """One record of the topic; its key is the digest of the caller's key."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["claim", "placement"]
    claim: Annotated[str, Field(max_length=64)]
    """Names the claim, for its gateway to know it again."""
    content: Annotated[str, Field(max_length=64)] = ""
    """Of a claim: the digest of the events; the key stands for these alone."""
    places: tuple[tuple[_Partition, _Offset], ...] = ()
    """Of a placement: partition and offset of each event, in the request's order."""
