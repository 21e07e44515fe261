"""What a worker says of each partition that it owns: whether it gets on, and what it waits for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["starting", "working", "waiting"]
_Milliseconds = Annotated[int, Field(ge=0, le=2**62)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer worker may say more


class Awaited(_Said):
    """An input that rows wait for."""

    since_ms: _Milliseconds
    """Since when (milliseconds since 1970)."""
    down: bool = False
    """It has given neither output nor sign of life for the stall time-out, or its own input is
    down, or it ends again and again at one row."""
    why: Annotated[str, Field(max_length=300)] = ""
    """What is known of the reason, for people."""


class PartitionStatus(_Said):
    """One partition of one component."""

    partition: Annotated[int, Field(ge=0, lt=2**31)]
    state: State
    waiting_for: dict[_Name, Awaited] = Field(default_factory=dict)
    """Input → since when; `name[lane]` for one lane of a repartitioned component. For the
    weighting agent also stages that are down and no longer waited for."""
    rows: Annotated[int, Field(ge=0)] = 0
    """Rows that it holds because they wait."""
    oldest_ms: _Milliseconds | None = None
    """When the oldest of them was published (milliseconds since 1970)."""
    lag: Annotated[int, Field(ge=0)] = 0
    """Records of its inputs that it has not dealt with."""
