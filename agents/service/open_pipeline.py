"""Everything that a pipeline needs before it can run: its components and its weights."""

from __future__ import annotations

import logging
from collections.abc import Collection

from agents.explanations import DecisionExplainer, RegistryVersions
from agents.process.active_pipeline import ActivePipeline
from agents.service.decided_by import keep_decided_by
from agents.service.open_version import (
    models_not_learned_for,
    open_active,
    open_deployed_weights,
    open_weights,
)
from agents.weigh import ActiveDecisionRule, DecisionRule, FieldsNotSent, check_fields_sent
from models.onnx.weighed_models import WeightsOfOtherModels
from models.registry import ModelOutOfDate, Registry, WeightsVersion, reads
from topics.errors import AnabranchError
from topics.pipeline import EXPLAINER, WEIGH, Pipeline, PipelineFile, workers
from topics.records import ControlState

log = logging.getLogger(__name__)


class UnknownComponent(AnabranchError):
    """A component that the pipeline does not have."""

    def __init__(self, name: str, pipeline: Pipeline) -> None:
        others = [WEIGH, EXPLAINER] if pipeline.explain.is_continuous else [WEIGH]
        known = ", ".join([*(component.name for component in pipeline.components), *others])
        hint = ""
        if name == EXPLAINER and EXPLAINER not in others:
            hint = " (an explainer, where the file says explain: when:)"
        super().__init__(
            f"pipeline {pipeline.name} has no component {name!r}; it has {known}{hint}"
        )


def open_pipeline(
    file: PipelineFile, registry: Registry, only: Collection[str] | None = None,
    state: ControlState | None = None,
) -> ActivePipeline:  # fmt: skip
    """Load the components named in *only* (all, if None) and the weights, where needed.

    The explainer is not one of all: it is run where it is named.

    *state* is what the control topic says is in service; without it, the newest versions are.
    Weights of other models than those in service are logged, or refused (`weights: strict`).
    Raises UnknownComponent, ComponentNotLoadable, or models.registry.errors.RegistryError.
    """
    pipeline, state = file.pipeline, state or ControlState()
    wanted = _wanted(pipeline, only)
    components = {
        name: open_active(pipeline, name, state.deployment(name), registry, file.path.parent)
        for name in wanted
        if name not in (WEIGH, EXPLAINER)
    }
    rule = open_rule(file, registry, state) if WEIGH in wanted else None
    if rule is not None:
        check_weighed_models(file, registry, state, rule.weights.version)
    return ActivePipeline(
        pipeline, components, None if rule is None else ActiveDecisionRule(rule),
        _explainer(file, registry) if EXPLAINER in wanted else None,
    )  # fmt: skip


def _wanted(pipeline: Pipeline, only: Collection[str] | None) -> list[str]:
    """The components of the workers that are asked for, each by its name or a component's."""
    members = {**workers(pipeline), WEIGH: (WEIGH,)}
    everything = [*members]
    if pipeline.explain.is_continuous:
        members[EXPLAINER] = (EXPLAINER,)
    wanted: dict[str, None] = {}
    for name in everything if only is None else only:
        named = [names for worker, names in members.items() if name in (worker, *names)]
        if not named:
            raise UnknownComponent(name, pipeline)
        wanted |= dict.fromkeys(named[0])
    return list(wanted)


def check_trained(
    pipeline: Pipeline, registry: Registry, only: Collection[str] | None = None
) -> None:
    """Raise what `open_pipeline` would, whatever is in service, for want of models or weights.

    No model is loaded: this is for before a broker is asked.
    """
    for name in _wanted(pipeline, only):
        if name == WEIGH:
            numbers = reversed(registry.weights_versions(pipeline.name))
            if not any(_fit(pipeline, registry.weights(pipeline.name, n)) for n in numbers):
                open_weights(pipeline, registry)
            continue
        if name == EXPLAINER:  # it opens what each decision names
            continue
        model = pipeline.component(name).model
        if model is None or model.estimator is None:
            continue
        versions = [model.version] if model.version else registry.versions(pipeline.name, name)
        if not any(_has_model(pipeline, name, n, registry) for n in reversed(versions)):
            newest = registry.get(pipeline.name, name, model.version)
            raise ModelOutOfDate(pipeline.name, newest.name, newest.card.inputs)


def open_rule(file: PipelineFile, registry: Registry, state: ControlState) -> DecisionRule:
    """The weights and the policy that are in service.

    Raises WeightsOutOfDate, or models.registry.errors.ModelNotFound.
    """
    policy = state.policy.policy if state.policy else None
    weights = open_deployed_weights(file.pipeline, registry, state.weights)
    rule = DecisionRule.of(file, weights, policy)
    try:
        check_fields_sent(file.pipeline, rule.policy)
    except FieldsNotSent as exc:  # nothing is explored then, which is no reason to decide nothing
        log.warning("nothing is explored: %s", exc)
    keep_decided_by(registry, file, rule.policy)
    return rule


def check_weighed_models(
    file: PipelineFile, registry: Registry, state: ControlState, version: int
) -> None:
    """Log models in service that weights of *version* were not learned for.

    Raises WeightsOfOtherModels where the file wants weights: strict.
    """
    pipeline = file.pipeline
    others = models_not_learned_for(pipeline, registry, file.path.parent, state, version)
    if others and pipeline.weighting.weights == "strict":
        raise WeightsOfOtherModels(pipeline.name, version, others)
    if others:
        log.warning(
            "weights@%d of %s were learned for other models than those in service: %s; their "
            "signals may mean something else (`anabranch train %s` learns weights for them)",
            version, pipeline.name, ", ".join(map(str, others)), pipeline.name,
        )  # fmt: skip


def is_trained(pipeline: Pipeline, registry: Registry) -> bool:
    """Every model that `anabranch train` would make is there, and fits the pipeline file."""
    models = all(
        _has_model(pipeline, spec.name, spec.model.version, registry)
        for spec in pipeline.components
        if spec.model is not None and spec.model.estimator is not None
    )
    if not models or pipeline.weighting.fixed_weights is not None:
        return models
    return registry.has_weights(pipeline.name) and _fit(pipeline, registry.weights(pipeline.name))


def _has_model(pipeline: Pipeline, name: str, version: int | None, registry: Registry) -> bool:
    if not registry.has(pipeline.name, name):
        return False
    return reads(pipeline, name, registry.get(pipeline.name, name, version).card.inputs)


def _fit(pipeline: Pipeline, learned: WeightsVersion) -> bool:
    return set(learned.card.values) == set(pipeline.weighting.inputs)


def _explainer(file: PipelineFile, registry: Registry) -> DecisionExplainer:
    return DecisionExplainer(file.pipeline, RegistryVersions(file, registry))
