"""`explain:` of a pipeline file: which decisions are explained as they come, and in which words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints

from topics.pipeline.fields import Duration, Strict

if TYPE_CHECKING:
    from topics.pipeline.schema import Pipeline

GroupName = Annotated[
    str, StringConstraints(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})?$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
"""With placeholders, see `topics.pipeline.text_template`."""


class ReasonTexts(Strict):
    """Reasons in one language; what is not said is as in English, or as the language has it."""

    score: Annotated[
        Text | None, Field(description="How it begins: {decision}, {score} and {base} are known.")
    ] = None
    higher: Annotated[Text | None, Field(description="What raises the score: {groups}.")] = None
    lower: Annotated[Text | None, Field(description="What lowers it: {groups}.")] = None
    unmoved: Annotated[Text | None, Field(description="Where no group moves it.")] = None
    conjunction: Annotated[
        Text | None, Field(alias="and", description="Between the last two groups.")
    ] = None
    explored: Annotated[
        Text | None,
        Field(
            description="How a decision is called that was explored: {decision} and {instead_of} "
            "are known."
        ),
    ] = None
    decimal: Annotated[
        Literal[".", ","] | None, Field(description="The decimal sign of numbers.")
    ] = None
    decisions: Annotated[
        dict[str, Text], Field(description="Decision → what it is called in this language.")
    ] = Field(default_factory=dict)
    groups: Annotated[
        dict[GroupName, Text | Annotated[list[Text], Field(min_length=1)]],
        Field(
            description="Group → what is said of it, with values of the event: `amount "
            "{amount:.2f}: {amount / customer_mean_amount_30d:.1f} × this customer's mean`. Of "
            "several texts, the first whose values are all known; without any, the group's name."
        ),
    ] = Field(default_factory=dict)


class Explain(Strict):
    """Which decisions are explained as they come, what about, and in which words."""

    when: Annotated[
        list[str],
        Field(
            description="Decisions that are explained, each, on <pipeline>.explanations, as they "
            "come; without any, and without share_of_others, no explainer runs."
        ),
    ] = Field(default_factory=list)
    share_of_others: Annotated[
        float,
        Field(
            ge=0, le=1,
            description="The share of all other decisions that is explained too, chosen by the "
            "coordinates of their events: always the same ones.",
        ),
    ] = 0.0  # fmt: skip
    shed_after: Annotated[
        Duration,
        Field(
            description="Decisions that are older when their turn comes are not explained any "
            "more, but counted: so an explainer that is behind catches up."
        ),
    ] = "1h"
    groups: Annotated[
        dict[GroupName, Annotated[list[str], Field(min_length=1)]],
        Field(
            description="Group → features that are one thing to people, by name, as "
            "component.feature where two components have one of that name, or all of a component "
            "by its name. Without it: the features of each event field, and those of each key's "
            "past. With more than ten groups explanations are estimates."
        ),
    ] = Field(default_factory=dict)
    reasons: Annotated[
        dict[Language, ReasonTexts],
        Field(
            description="Language → the texts that a reason is put together of; the first "
            "language is that of `reason`. English without any."
        ),
    ] = Field(default_factory=dict)

    @property
    def is_continuous(self) -> bool:
        """Whether decisions are explained as they come."""
        return bool(self.when) or self.share_of_others > 0


def wrong_decisions(pipeline: Pipeline) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where `explain:` asks for decisions that there are not, or cannot be explained, and why."""
    explain = pipeline.explain
    if explain.is_continuous and pipeline.weighting.fixed_weights is not None:
        field = "when" if explain.when else "share_of_others"
        why = "the weights are fixed in this file, and no background rows are kept with those"
        yield (field,), f"nothing can be explained: {why}; say weights: learned, and train"
    known = [pipeline.policy.otherwise, *pipeline.policy.thresholds]
    for place, decision in enumerate(explain.when):
        if decision not in known:
            yield (("when", place), _unknown(decision, known))
        elif decision in explain.when[:place]:
            yield (("when", place), f"{decision!r} is listed twice")
    for language, texts in explain.reasons.items():
        for decision in texts.decisions:
            if decision not in known:
                yield (("reasons", language, "decisions", decision), _unknown(decision, known))


def _unknown(decision: str, known: list[str]) -> str:
    return f"{decision!r} is none of the policy's decisions: {', '.join(known)}"
