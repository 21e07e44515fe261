"""`renew:` of a pipeline file: when its models are trained anew, and what a new one has to show.

All days here are days of events: a renewal's clock is the newest event time on the topic, so that
a month that is published in an hour is a month, and a topic that stands still renews nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from topics.pipeline.fields import Duration, Name, Strict, duration_ms

if TYPE_CHECKING:
    from topics.pipeline.schema import ComponentSpec, Pipeline

RenewalTrigger = Literal["drift", "quality", "schedule"]


class Renew(Strict):
    """When models are renewed by themselves, of what, and what they have to show for it."""

    triggers: Annotated[
        list[RenewalTrigger],
        Field(
            alias="on",
            description="What begins a renewal. drift, quality: what <pipeline>.monitor says; "
            "schedule: every so often. Without any, nothing is renewed by itself; `anabranch renew "
            "--once` renews all the same.",
        ),
    ] = Field(default_factory=list)
    every: Annotated[
        Duration, Field(description="Of schedule: days of events from one renewal to the next.")
    ] = "7d"
    cool_down: Annotated[
        Duration,
        Field(description="Days of events after a renewal has ended before another begins."),
    ] = "2d"
    fresh: Annotated[
        Duration,
        Field(
            description="Of drift: so many days of events since it began must have outcomes before "
            "a renewal for it begins. Without them it would learn what was."
        ),
    ] = "2d"
    over: Annotated[
        Duration, Field(description="How many days of events with outcomes are trained on.")
    ] = "30d"
    components: Annotated[
        list[Name] | None,
        Field(
            min_length=1,
            description="What is renewed; without it each component that has a supervised "
            "estimator here and is kept on no version.",
        ),
    ] = None
    incremental: Annotated[
        list[Name],
        Field(
            description="Of what is renewed: components whose model goes on learning from the "
            "version in service, with the rows that have got an outcome since, instead of being "
            "fitted anew over renew: over. For estimators with partial_fit.",
        ),
    ] = Field(default_factory=list)
    variants: Annotated[
        bool,
        Field(description="Measure variants of the new models, and take the fastest that is "
              "within the tolerances of optimise:, see `anabranch models optimise`."),
    ] = False  # fmt: skip
    worse_by: Annotated[
        float,
        Field(
            ge=0, le=1,
            description="On the newest days with outcomes the average precision of a new model may "
            "be so much lower than that of the one in service; else it is given up before it runs "
            "beside it. Generous, as it is that of a model which these days were kept from, and "
            "fitted on fewer rows than the one that would run.",
        ),
    ] = 0.2  # fmt: skip
    gate: Annotated[
        str,
        Field(
            min_length=1, max_length=500,
            description="What has to be true of what a new version would have decided, before it "
            "runs beside the old one, and again before it takes its place; see deploy/what_if.md.",
        ),
    ] = "dead <= 0 and changed <= 20%"  # fmt: skip
    gate_over: Annotated[
        Duration, Field(description="Of the gate: the last days of events that it is tried on.")
    ] = "2d"
    alpha: Annotated[
        float,
        Field(ge=1e-6, le=0.5, description="The chance that the sequential test is wrong."),
    ] = 0.05
    challenge: Annotated[
        Duration,
        Field(
            description="Days of events that a challenger has to be found better in; then it is "
            "closed. Outcomes take as long as outcomes.delay says, and that is part of it."
        ),
    ] = "21d"
    retries: Annotated[
        int, Field(ge=0, le=20, description="So often a step that failed is tried again.")
    ] = 2
    max_age: Annotated[
        Duration | None,
        Field(description="Older models, by the newest event that they know of, are an alert."),
    ] = None
    engine: Annotated[Literal["local", "ray"], Field(description="Where models are fitted.")] = (
        "local"
    )
    address: Annotated[
        Annotated[str, StringConstraints(min_length=1, max_length=500)] | None,
        Field(description="Of engine: ray: the cluster's, ray://HOST:PORT; Ray is started here "
              "without it."),
    ] = None  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _on_is_a_word(cls, value: Any) -> Any:
        """YAML 1.1 reads the word `on` as true, also where it is a key."""
        if isinstance(value, dict) and True in value and "on" not in value:
            return {("on" if key is True else key): each for key, each in value.items()}
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Renew:
        if len(set(self.triggers)) < len(self.triggers):
            raise ValueError("on lists a trigger twice")
        if len(set(self.incremental)) < len(self.incremental):
            raise ValueError("incremental lists a component twice")
        if self.address is not None and self.engine != "ray":
            raise ValueError("address is a Ray cluster's: say engine: ray")
        return self

    @property
    def is_by_itself(self) -> bool:
        """Whether anything begins a renewal without a person."""
        return bool(self.triggers)


def renewable(spec: ComponentSpec) -> bool:
    """Whether a component has a model that is trained here and kept on no version."""
    model = spec.model
    return model is not None and model.estimator is not None and model.version is None


def wrong_renewals(pipeline: Pipeline) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where `renew:` asks for what cannot be, and why."""
    renew = pipeline.renew
    for field, names in (
        ("components", renew.components or []),
        ("incremental", renew.incremental),
    ):
        for place, name in enumerate(names):
            if (why := _not_renewable(pipeline, name)) is not None:
                yield (field, place), why
            elif name not in (renew.components or [name]):
                yield (field, place), f"{name!r} is not renewed: name it in renew: components, too"
    if renew.incremental and pipeline.data.published_at is not None:
        yield (
            ("incremental",),
            (
                "events have no times of their own (data: published_at), and the rows that are "
                "new are told by theirs"
            ),
        )
    yield from _wrong_triggers(pipeline, renew)


def _not_renewable(pipeline: Pipeline, name: str) -> str | None:
    spec = next((each for each in pipeline.components if each.name == name), None)
    if spec is None:
        return f"unknown component {name!r}"
    if not renewable(spec):
        return f"{name!r} is not trained here: it has no estimator, or is kept on a version"
    return None


def _wrong_triggers(
    pipeline: Pipeline, renew: Renew
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if not renew.is_by_itself:
        return
    delay = pipeline.outcomes.delay
    if pipeline.weighting.weights == "strict":
        yield (
            ("on",),
            (
                "weights: strict runs with the models they were learned for alone, and a renewal "
                "promotes models one by one: say weights: learned"
            ),
        )
    if duration_ms(renew.challenge) <= duration_ms(delay):
        yield (
            ("challenge",),
            (
                f"within {renew.challenge} no outcome of a challenger's events is known: they take "
                f"{delay} (outcomes: delay)"
            ),
        )
    if pipeline.data.published_at is not None:
        yield ("on",), "events have no times of their own (data: published_at), and days are theirs"
