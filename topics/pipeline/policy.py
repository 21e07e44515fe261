"""Decisions: which one a score leads to, what each costs, and how far they may stray from fp32."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from topics.pipeline.fields import Strict


class DecisionCost(Strict):
    """What one decision costs, in any unit that all costs share; what is not said is 0.

    approve: {positive: 120} is what a missed fraud costs, review: {positive: 5, negative: 5}
    what a review costs whatever it finds, decline: {negative: 30} what a false alarm costs.
    """

    positive: Annotated[float, Field(ge=0, description="On an event that proves positive.")] = 0.0
    negative: Annotated[float, Field(ge=0, description="On one that proves negative.")] = 0.0


class Explore(Strict):
    """A small share of some decisions is taken otherwise, so that their outcomes become known.

    explore: {of: [decline], as: approve, share: 0.005, up_to: {amount: 50}} approves one in 200 of
    the events that would be declined, of those with an amount of 50 at most.
    """

    of: Annotated[
        list[str],
        Field(min_length=1, description="Decisions of the policy whose outcome does not show."),
    ]
    decision: Annotated[
        str, Field(alias="as", description="What is decided instead; its outcome shows.")
    ]
    share: Annotated[
        float,
        Field(
            gt=0, lt=1,
            description="The share of those decisions that is explored, by a keyed hash of the "
            "event's coordinates: the same events again when they are replayed.",
        ),
    ]  # fmt: skip
    up_to: Annotated[
        dict[str, float],
        Field(
            description="Event field (a number) → the largest value that is explored. An event "
            "without the field is not."
        ),
    ] = Field(default_factory=dict)
    key: Annotated[
        str | None,
        Field(
            min_length=1, max_length=16,
            description="Of the hash: with another one other events are explored. By default the "
            "pipeline's name.",
        ),
    ] = None  # fmt: skip


class Policy(Strict):
    """Which decision a score leads to."""

    version: Annotated[int, Field(ge=1)] = 1
    otherwise: str = "approve"
    """The decision for a score below every threshold."""
    thresholds: Annotated[dict[str, Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]
    """Decision → the score from which on it is taken, ascending."""
    costs: dict[str, DecisionCost] | None = None
    """Decision → what it costs; `anabranch train` says which thresholds cost the least."""
    explore: Explore | None = None
    """Which decisions are taken otherwise now and then, to know their outcomes; none by default."""

    @property
    def bounded_fields(self) -> list[str]:
        """Event fields whose values the weighting agent has to know: they travel with the rows."""
        return [] if self.explore is None else [*self.explore.up_to]

    @property
    def content(self) -> bytes:
        """Itself as JSON, without what is not said: the same bytes for the same policy."""
        return self.model_dump_json(exclude_none=True).encode()

    @model_validator(mode="after")
    def _costs_are_of_all_decisions(self) -> Self:
        decisions = [self.otherwise, *self.thresholds]
        if self.costs is not None and set(self.costs) != set(decisions):
            raise ValueError(f"costs must name exactly the decisions {', '.join(decisions)}")
        return self

    @model_validator(mode="after")
    def _explored_are_decisions(self) -> Self:
        if (explore := self.explore) is None:
            return self
        decisions = [self.otherwise, *self.thresholds]
        if strange := [name for name in [*explore.of, explore.decision] if name not in decisions]:
            raise ValueError(
                f"explore: {strange[0]!r} is none of the decisions {', '.join(decisions)}"
            )
        if explore.decision in explore.of:
            raise ValueError(f"explore: {explore.decision!r} is explored as itself")
        return self

    @model_validator(mode="after")
    def _thresholds_ascend(self) -> Self:
        values = list(self.thresholds.values())
        if values != sorted(set(values)):
            raise ValueError(f"thresholds must ascend strictly, these are {values}")
        if self.otherwise in self.thresholds:
            raise ValueError(f"otherwise: {self.otherwise!r} also has a threshold")
        return self


Share = Annotated[float, Field(ge=0, le=1)]


def _ascending(sizes: list[int]) -> list[int]:
    return sorted(set(sizes))


BatchSizes = Annotated[
    list[Annotated[int, Field(ge=1, le=65_536)]], Field(min_length=1), AfterValidator(_ascending)
]


class Tolerances(Strict):
    """What `anabranch models optimise` lets a variant cost, on held-out rows."""

    max_delta: Share = 0.05
    """The largest difference between a row's signal and that of fp32."""
    max_flips: Share = 0.001
    """The share of the pipeline's decisions that may be others with the variant in place."""
    max_auc_loss: Share = 0.001
    """How much AUC ROC the component's signal may lose."""
    max_ap_loss: Share = 0.005
    """How much average precision it may lose."""
    batch: BatchSizes = Field(default=[1, 16, 256, 4096])
    """Rows a batch: a variant has to be faster over all of these, each counting the same."""
