"""The pipeline file: what flows, through which components, and how it is weighed.

The models below are the schema of a pipeline file. They check one field at a time; what
only the whole graph can tell (cycles, dead ends, unknown names) is in `topics.pipeline.checks`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from topics.pipeline.call_settings import Calls
from topics.pipeline.component_kinds import KINDS, KindName, kind_of, listed
from topics.pipeline.event_schema import DataMapping, EventSchema, Outcomes, Retention
from topics.pipeline.explain_settings import Explain
from topics.pipeline.fields import EVENTS, OUTCOMES, Feature, Instant, Name, Scalar, Strict
from topics.pipeline.learning_settings import Learning, Quarantine
from topics.pipeline.policy import Policy, Tolerances
from topics.pipeline.quality_settings import Quality
from topics.pipeline.renewal_settings import Renew

ImportPath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*[.:][A-Za-z_]\w*$", max_length=200)
]


class ModelSpec(Strict):
    """Where a component's model comes from: trained here, or an ONNX file."""

    estimator: Annotated[
        ImportPath | None,
        Field(
            description="What `anabranch train` fits, by import path: an estimator of scikit-learn "
            "or a class of your own like them; lightgbm.LGBMClassifier, xgboost.XGBClassifier, "
            "catboost.CatBoostClassifier with the extra of that name."
        ),
    ] = None
    parameters: dict[str, Scalar] = Field(default_factory=dict)
    candidates: Annotated[
        dict[str, Annotated[list[Scalar], Field(min_length=1)]],
        Field(
            description="Values that `anabranch tune` tries for parameters; training uses "
            "`parameters` alone."
        ),
    ] = Field(default_factory=dict)
    path: str | None = None
    """An ONNX file, relative to the pipeline file, to start on, until a version is promoted."""
    trained_until: Annotated[
        Instant | None,
        Field(
            description="Of a path: the time of the newest event that the file's model was trained "
            "on, such as 2026-01-31T00:00:00Z; a date is that whole day in UTC. It is measured and "
            "weighed on later events alone; without it not at all, as it may have seen them."
        ),
    ] = None
    version: Annotated[int, Field(ge=1)] | None = None
    """The version of the registry to start on, until one is promoted; without it, the newest."""
    calibration: Annotated[
        Literal["none", "sigmoid", "isotonic"],
        Field(
            description="A map of the signal to the share that came true, fitted on rows that the "
            "model was not fitted on: sigmoid, or, with thousands of positives, isotonic."
        ),
    ] = "none"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.estimator is None) == (self.path is None):
            raise ValueError("give either estimator: (trained here) or path: (an ONNX file)")
        if self.trained_until is not None and self.path is None:
            raise ValueError(
                "trained_until is for a path; of an imported model, models import --trained-until "
                "says it"
            )
        trained = self.parameters or self.candidates or self.version or self.calibration != "none"
        if self.path is not None and trained:
            raise ValueError(
                "parameters, candidates, version and calibration are for an estimator, not for a "
                "path"
            )
        return self


class ComponentSpec(Strict):
    """One component: a Faust agent that reads its inputs' topics and writes its own."""

    name: Name
    kind: KindName | None = None
    """A component that comes with Anabranch."""
    import_path: ImportPath | None = Field(default=None, alias="import")
    """A component of your own: `package.module:Class`."""
    options: dict[str, Scalar] = Field(default_factory=dict)
    """Keyword arguments for your own component."""
    deterministic: Annotated[
        bool,
        Field(
            description="Of your own component: the same rows get the same bits from the same "
            "code, in any batch and whenever it is run. anabranch replay runs it again then, and "
            "takes its recorded outputs otherwise. Built-in components are."
        ),
    ] = False
    pure: Annotated[
        bool,
        Field(
            description="Of your own component that reads others: what it says follows from what "
            "these say of the row alone, without state, input or output, and fast. Explanations "
            "call it then, on rows that mix an event with usual ones; otherwise its output is one "
            "player. Such a component is deterministic, too."
        ),
    ] = False
    calls: Annotated[
        Calls | None,
        Field(
            description="Of your own component that asks another system: time-out, retries, "
            "deadline, cache, default. A call that fails on a row fails that row alone, in "
            "training as in serving."
        ),
    ] = None
    inputs: Annotated[list[str], Field(alias="from", min_length=1)]
    key: str | None = None
    """The event field whose past the windowed features are about; the event's key if not given.
    For another field than the event's key, events are repartitioned by it.
    """
    features: Annotated[list[Feature], Field(min_length=1)] | None = None
    model: ModelSpec | None = None
    partitions: int | None = None
    """Must equal the pipeline's: a stage batch keeps its source's partition number."""

    @model_validator(mode="after")
    def _kind_fits_the_rest(self) -> Self:
        if (self.kind is None) == (self.import_path is None):
            raise ValueError("give either kind: (built in) or import: (your own component)")
        if self.options and self.import_path is None:
            raise ValueError("options are for a component of your own (import:)")
        if self.deterministic and self.import_path is None:
            raise ValueError("deterministic is for a component of your own (import:): others are")
        if self.pure and self.import_path is None:
            raise ValueError("pure is for a component of your own (import:): others are")
        if self.pure and EVENTS in self.inputs:
            raise ValueError(
                "pure is for a component that reads others: what one says that reads events is "
                "what explanations begin with"
            )
        kind = kind_of(self)
        if kind.passes_on_features != (self.features is not None):
            of_features = [name for name, each in KINDS.items() if each.passes_on_features]
            raise ValueError(f"features: [...] goes with kind: {listed(of_features)}")
        if self.key is not None and not self.windowed:
            raise ValueError("key: is for windowed features (over: [...])")
        if kind.needs_model and self.model is None:
            raise ValueError(f"{self.kind} needs a model:")
        if self.kind is not None and self.model is not None and not kind.has_model:
            raise ValueError(f"{self.kind} has no model:")
        return self

    @model_validator(mode="after")
    def _calls_fit_the_rest(self) -> Self:
        if self.calls is None:
            return self
        if self.import_path is None:
            raise ValueError("calls: is for a component of your own (import:)")
        if self.is_deterministic:
            raise ValueError("what calls another system is neither deterministic nor pure")
        if self.calls.default is None and EVENTS not in self.inputs:
            raise ValueError(
                "calls: of a component that reads others needs a default: training cannot leave "
                "out rows that its models have been fitted on"
            )
        if self.calls.cache and (EVENTS in self.inputs) != (self.calls.cache_by is not None):
            raise ValueError(
                "calls: cache of a component that reads events goes with cache_by: the fields that "
                "an answer follows from; an event's id and time never come again"
            )
        return self

    @property
    def is_labelled(self) -> bool:
        """Its signal was fitted on labels, or is the user's own; a novelty signal is neither."""
        return not kind_of(self).is_novelty

    @property
    def is_deterministic(self) -> bool:
        """The same rows get the same bits from the same code: declared so, or pure."""
        return self.deterministic or self.pure

    @property
    def windowed(self) -> list[Feature]:
        """The features that look at the past."""
        return [feature for feature in self.features or [] if feature.over is not None]


Weights = Annotated[
    Annotated[Literal["learned", "strict"], Tag("learned")]
    | Annotated[dict[str, Annotated[float, Field(ge=0, le=1)]], Tag("fixed")],
    Discriminator(lambda value: "fixed" if isinstance(value, dict) else "learned"),
]
"""`learned`; `strict`, which is learned and runs with the models they were learned for alone; or
one number per stage."""


def _groups(value: object) -> object:
    """One list of names is short for a list of one such list."""
    one = isinstance(value, list) and value and all(isinstance(name, str) for name in value)
    return [value] if one else value


Fuse = Annotated[
    list[Annotated[list[Name], Field(min_length=2)]],
    BeforeValidator(_groups, json_schema_input_type=list[Name] | list[list[Name]]),
]


class Fallback(Strict):
    """What is decided about an event that has to be answered before every stage has."""

    fallback: Annotated[str, Field(description="One of the policy's decisions; without a score.")]


Late = Annotated[
    Annotated[Literal["wait", "degrade"], Tag("word")] | Annotated[Fallback, Tag("fallback")],
    Discriminator(lambda value: "word" if isinstance(value, str) else "fallback"),
]
"""`wait`, `degrade`, or {fallback: DECISION}."""
Quorum = Literal["labelled"] | Annotated[float, Field(gt=0, le=1)]


class Weighting(Strict):
    """How the weighting agent merges the stage outputs: y = Σ α·y, α ≥ 0, Σα = 1."""

    inputs: Annotated[list[str], Field(alias="from", min_length=1)]
    weights: Annotated[
        Weights,
        Field(
            description="learned: by anabranch train, on rows that no model has seen. strict: "
            "learned too, and the weighting agent refuses to start with other models than those "
            "they were learned for; with learned it says so and starts. Or one number per stage, "
            "which sum to 1."
        ),
    ] = "learned"
    late: Annotated[
        Late,
        Field(
            description="What happens to a row that a stage has not answered deadline_ms after the "
            "weighting agent has heard of it. wait: nothing, it waits until the stage answers or "
            "is down. degrade: it is decided without that stage, as if that were down. {fallback: "
            "DECISION}: it gets that decision, and no score."
        ),
    ] = "wait"
    deadline_ms: Annotated[
        int, Field(ge=1, le=3_600_000, description="For late: how long a row may be waited for.")
    ] = 5000
    stall_timeout_s: Annotated[
        float,
        Field(
            gt=0, le=86_400,
            description="A stage is down when it has given neither output nor heartbeat for this "
            "long, or waits for one that is down. At least twice ANABRANCH_SESSION_TIMEOUT_S and "
            "10 s, so that a worker that was killed is replaced before it is given up.",
        ),
    ] = 30.0  # fmt: skip
    quorum: Annotated[
        Quorum | None,
        Field(
            description="What is enough for a decision where a stage failed or is down: a share of "
            "the weights, or labelled: one stage with a weight that was fitted on labels. "
            "By default labelled, with missing: fail every stage."
        ),
    ] = None
    missing: Annotated[
        Literal["renormalise", "fail"],
        Field(
            description="What a stage's failure on a row leads to: the weights of the others are "
            "scaled up, or the row is a dead letter."
        ),
    ] = "renormalise"
    learning: Learning = Learning()
    quarantine: Quarantine = Quarantine()
    max_in_flight: Annotated[int, Field(ge=1)] = 50_000
    """Rows that a join holds per partition before it pauses the faster inputs."""
    max_in_flight_bytes: Annotated[
        int,
        Field(
            ge=2**20,
            description="Bytes that all joins of a worker hold before they pause the faster "
            "inputs: each input of each of its partitions has an equal share. By default as much "
            "as a worker has room for in 512 MiB.",
        ),
    ] = 128 * 2**20

    @property
    def fixed_weights(self) -> dict[str, float] | None:
        """One number per stage; None where weights are learned."""
        return None if isinstance(self.weights, str) else self.weights

    @property
    def is_moved(self) -> bool:
        """Whether a monitor registers versions of the weights, and puts them into service."""
        return "active" in (self.learning.mode, self.quarantine.mode)

    @property
    def fallback(self) -> str | None:
        """The decision about rows that are late; None when there is none."""
        return self.late.fallback if isinstance(self.late, Fallback) else None

    @property
    def deadline_s(self) -> float | None:
        """How long a row may be waited for; None for as long as it takes."""
        return None if self.late == "wait" else self.deadline_ms / 1000

    @model_validator(mode="after")
    def _fixed_weights_sum_to_one(self) -> Self:
        if (weights := self.fixed_weights) is None:
            return self
        if set(weights) != set(self.inputs):
            raise ValueError(f"weights must name exactly the stages of from: {self.inputs}")
        total = sum(weights.values())
        if abs(total - 1) > 1e-9:
            raise ValueError(f"weights must sum to 1, these sum to {total:g}")
        return self

    @model_validator(mode="after")
    def _weights_that_are_fixed_do_not_move(self) -> Self:
        if self.fixed_weights is not None:
            for name, live in (("learning", self.learning), ("quarantine", self.quarantine)):
                if live.mode == "active":
                    raise ValueError(
                        f"{name}: mode: active changes weights, which are fixed here: say weights: "
                        f"learned, or {name}: {{mode: shadow}}"
                    )
        return self

    @model_validator(mode="after")
    def _missing_stages_are_dealt_with_in_one_way(self) -> Self:
        if self.missing == "fail" and self.quorum not in (None, 1):
            raise ValueError(
                f"missing: fail wants every stage, so quorum: {self.quorum} is never enough: leave "
                "quorum out, or say missing: renormalise"
            )
        if self.missing == "fail" and self.late == "degrade":
            raise ValueError(
                "late: degrade decides without a stage, which missing: fail forbids: say late: "
                "wait or late: {fallback: DECISION}, or missing: renormalise"
            )
        return self


class Pipeline(Strict):
    """A whole pipeline file."""

    pipeline: Name
    description: str = ""
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 4
    codec: Literal["binary", "json"] = "binary"
    event: EventSchema
    outcomes: Outcomes = Outcomes()
    retention: Retention = Retention()
    data: DataMapping = DataMapping()
    components: Annotated[list[ComponentSpec], Field(min_length=1)]
    fuse: Annotated[
        Fuse,
        Field(
            description="Components that one worker runs, one after the other: [features, risk], "
            "or a list of such lists. Each still writes its own topic."
        ),
    ] = Field(default_factory=list)
    weighting: Weighting
    policy: Policy
    explain: Explain = Explain()
    quality: Quality = Quality()
    optimise: Tolerances = Tolerances()
    renew: Renew = Renew()

    @property
    def name(self) -> str:
        """The pipeline's name: the prefix of its topics and consumer groups."""
        return self.pipeline

    def component(self, name: str) -> ComponentSpec:
        """The component called *name*; KeyError when there is none."""
        for component in self.components:
            if component.name == name:
                return component
        raise KeyError(name)

    def with_version(self, name: str, version: int | None) -> Pipeline:
        """The same pipeline, with component *name* on a version of its model, if any is given."""
        if version is None:
            return self

        def kept(spec: ComponentSpec) -> ComponentSpec:
            if spec.name != name or spec.model is None:
                return spec
            return spec.model_copy(
                update={"model": spec.model.model_copy(update={"version": version})}
            )

        return self.model_copy(update={"components": [kept(spec) for spec in self.components]})

    def entity(self, name: str) -> str:
        """The event field whose past the windowed features of component *name* are about."""
        return self.component(name).key or self.event.key

    def reads_outcomes(self, name: str) -> bool:
        """Component *name* has a windowed feature of outcomes."""
        return any(feature.of == OUTCOMES for feature in self.component(name).windowed)

    def is_repartitioned(self, name: str) -> bool:
        """Component *name* needs the past of another field than the partition key, or outcomes.

        Or of the partition key, where record keys are not trusted to be that (`keys: rekey`).
        """
        of_another = self.entity(name) != self.event.key or self.event.keys == "rekey"
        return (bool(self.component(name).windowed) and of_another) or self.reads_outcomes(name)
