"""`learning:` and `quarantine:` of `weighting:`: weights that move while events flow."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from topics.pipeline.fields import Duration, Strict

LiveMode = Literal["off", "shadow", "active"]
"""off: nothing is computed. shadow: what would be done is said, and nothing is done. active: it is
done, by a version of the weights on the control topic."""


class Learning(Strict):
    """Weights that a monitor learns from outcomes, by Fixed-Share (`models.live_weights`)."""

    mode: Annotated[
        LiveMode,
        Field(
            description="shadow: the monitor says what the weights would be, and what they would "
            "have cost. active: every step becomes a version of the weights, and is put into "
            "service. off: none of it."
        ),
    ] = "shadow"
    rate: Annotated[
        float,
        Field(gt=0, le=1, description="How much one outcome counts: belief × exp(-rate × loss)."),
    ] = 0.1
    share: Annotated[
        float,
        Field(
            gt=0, lt=1,
            description="Of the belief that goes back, after each period, to what was believed "
            "before any outcome: the higher, the sooner another change is followed.",
        ),
    ] = 0.01  # fmt: skip
    period: Annotated[
        Duration,
        Field(description="Outcomes that become known within such a time are learned together."),
    ] = "1h"
    floor: Annotated[
        float,
        Field(
            ge=0, le=0.5,
            description="Least weight of a stage that has one in the trained weights; at most an "
            "equal share.",
        ),
    ] = 0.005  # fmt: skip
    cap: Annotated[
        float,
        Field(gt=0, le=1, description="Largest weight of any stage; at least an equal share."),
    ] = 1.0
    step: Annotated[
        float,
        Field(
            ge=0, le=1,
            description="Weights are put into service once one of them differs by this much from "
            "those that are there.",
        ),
    ] = 0.02  # fmt: skip
    band: Annotated[
        float,
        Field(
            ge=0, le=100,
            description="How far, relative to itself, the share of a decision may move by other "
            "weights before thresholds are moved with them: 0.2 lets 5 % become 4 to 6 %. A large "
            "one leaves the thresholds as they are.",
        ),
    ] = 0.2  # fmt: skip
    window: Annotated[
        int,
        Field(
            ge=1000, le=1_000_000,
            description="Newest decisions on which the shares are compared; no weights are put "
            "into service before there are 1,000.",
        ),
    ] = 10_000  # fmt: skip


class Quarantine(Strict):
    """Stages that fail, or say the same of every row, weigh nothing for a time."""

    mode: Annotated[
        LiveMode,
        Field(
            description="shadow: the monitor says which stages it would take. active: they weigh "
            "nothing, by a version of the weights, until they are restored. off: none of it."
        ),
    ] = "shadow"
    rows: Annotated[
        int,
        Field(
            ge=50, le=1_000_000,
            description="Decisions of a block on which a stage is judged; those that it was down "
            "or late for do not count.",
        ),
    ] = 1000  # fmt: skip
    failed: Annotated[
        float,
        Field(
            gt=0, le=1,
            description="A stage is taken when it failed on this share of a block. A quarter of it "
            "is good enough to be restored.",
        ),
    ] = 0.5  # fmt: skip
    restore_blocks: Annotated[
        int,
        Field(
            ge=1, le=1000,
            description="So many good blocks one after the other restore a stage; twice as many "
            "each time it is taken again soon.",
        ),
    ] = 4  # fmt: skip
