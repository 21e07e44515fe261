"""What the pipeline file says of a component that asks another system: how, and how long."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from topics.pipeline.fields import Duration, Strict, duration_ms


class Calls(Strict):
    """How a component of your own that calls out is run: its `transform` is the call."""

    rows: Annotated[
        int,
        Field(
            ge=1, le=10_000,
            description="Rows of a call, at most. A call that raises is made again for each half "
            "of its rows, so that only those fail that cause it.",
        ),
    ] = 1  # fmt: skip
    timeout: Annotated[
        Duration,
        Field(
            description="How long a call may take; then its rows fail, CallTimeout. The call "
            "itself cannot be ended: it keeps its place among `concurrency` until it returns, so "
            "give your client a time-out too."
        ),
    ] = "1s"
    retries: Annotated[
        int, Field(ge=0, le=10, description="Further tries of a call that raised.")
    ] = 2
    backoff: Annotated[
        Duration, Field(description="Before the first retry; twice as long before each other one.")
    ] = "50ms"
    concurrency: Annotated[int, Field(ge=1, le=64, description="Calls at a time, at most.")] = 8
    deadline: Annotated[
        Duration,
        Field(
            description="How long a micro-batch may take: rows without an answer by then fail, "
            "CallDeadline, and the stage goes on. Less than stall_timeout_s, and than deadline_ms "
            "where late: is not wait. Training has none."
        ),
    ] = "5s"
    cache: Annotated[
        int,
        Field(
            ge=0, le=10_000_000,
            description="Answers that are kept, by cache_by; 0 keeps none. Failures "
            "never are.",
        ),
    ] = 0  # fmt: skip
    cache_by: Annotated[
        list[str] | None,
        Field(
            min_length=1,
            description="The event fields that an answer follows from, of a component that reads "
            "events: rows that are equal in these share it.",
        ),
    ] = None  # fmt: skip
    cache_for: Annotated[Duration, Field(description="How long an answer is kept.")] = "5m"
    default: Annotated[
        float | None,
        Field(
            ge=0, le=1,
            description="The signal of a row whose call failed. Without it the row has none: it is "
            "weighed without this stage, as `missing:` says.",
        ),
    ] = None  # fmt: skip
    default_output: Annotated[
        list[float] | None,
        Field(min_length=1, description="The output of such a row; the default if not given."),
    ] = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.default_output is not None and self.default is None:
            raise ValueError("default_output goes with a default, the signal of such rows")
        if self.cache_by is not None and not self.cache:
            raise ValueError("cache_by goes with a cache: how many answers are kept")
        if duration_ms(self.timeout) > duration_ms(self.deadline):
            raise ValueError(f"timeout: {self.timeout} is more than deadline: {self.deadline}")
        return self
