"""Opening what the control topic says is in service, or the last that is good instead.

A control record may name what is not there any more: a version that was deleted, one with another
digest, weights that do not fit the pipeline file. That stops no start. What was in service before
runs then, or else the newest version in the registry that can be used. It is logged, and
`agents.service.hot_swap`, which tries the record again, counts it and reports it as refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from agents.components import ActiveChallenger, ActiveComponent, OpenComponent, open_component
from agents.weigh import Weights
from models.onnx.weighed_models import (
    OtherModel,
    ServedModel,
    in_service,
    learned_for,
    other_models,
)
from models.registry import Registry, RegistryError, WeightsOutOfDate, WeightsVersion
from topics.pipeline import ComponentSpec, Pipeline
from topics.records import WEIGHTS, ControlState, Deployment, VersionRef, WeightsDeployment

log = logging.getLogger(__name__)

T = TypeVar("T")


class NotSwappable(RegistryError):
    """The component has no model that could be another version."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"component {name} cannot be given another version: {why}")


class OtherDigest(RegistryError):
    """The registry's version is not the one that was promoted."""

    def __init__(self, model: str, promoted: str, digest: str) -> None:
        super().__init__(
            f"{model} is {digest} in this registry, but {promoted} was promoted: "
            "workers and whoever promotes must have one registry"
        )


def check_swappable(spec: ComponentSpec) -> None:
    """Raise NotSwappable when versions of the component are not ours to choose."""
    if spec.model is None:
        raise NotSwappable(spec.name, "it has no model")


def open_version(
    pipeline: Pipeline, name: str, version: VersionRef, registry: Registry, folder: Path
) -> OpenComponent:
    """Component *name* with a version of its model, tested on its probe rows.

    *folder* is the pipeline file's. Raises RegistryError.
    """
    check_swappable(pipeline.component(name))
    stored = registry.get(pipeline.name, name, version.version)
    if stored.digest != version.digest:
        raise OtherDigest(f"{name}@{version.version}", version.digest, stored.digest)
    pinned = pipeline.with_version(name, version.version)
    return open_component(pinned, name, registry, folder, to_the_bit=True)


def open_active(
    pipeline: Pipeline, name: str, deployment: Deployment, registry: Registry, folder: Path
) -> ActiveComponent:
    """Component *name* as it is deployed: champion and challenger, see `open_deployed`."""
    champion = open_deployed(pipeline, name, deployment, registry, folder)
    return ActiveComponent(champion, open_challenger(pipeline, name, deployment, registry, folder))


def open_deployed(
    pipeline: Pipeline, name: str, deployment: Deployment, registry: Registry, folder: Path
) -> OpenComponent:
    """Component *name* as it is deployed: the champion, or the last version that is good.

    Raises RegistryError when none can be used, ComponentNotLoadable.
    """
    spec = pipeline.component(name)
    if deployment.champion is None:
        return open_component(pipeline, name, registry, folder)

    def promoted(version: VersionRef) -> Callable[[], OpenComponent]:
        return lambda: open_version(pipeline, name, version, registry, folder)

    def registered(version: int) -> Callable[[], OpenComponent]:
        def opened() -> OpenComponent:
            digest = registry.get(pipeline.name, name, version).digest
            return promoted(VersionRef(version=version, digest=digest))()

        return opened

    # With a path or a version the file says where to start; or it has become another one's.
    if spec.model is None or spec.model.estimator is None or spec.model.version is not None:
        others = [lambda: open_component(pipeline, name, registry, folder)]
    else:
        others = [registered(number) for number in reversed(registry.versions(pipeline.name, name))]
    before = [promoted(deployment.previous)] if deployment.previous else []
    return _first_usable(
        f"{name}@{deployment.champion.version}",
        [promoted(deployment.champion), *before, *others],
        lambda opened: f"{opened.model.model} ({opened.model.digest})",
    )


def open_challenger(
    pipeline: Pipeline, name: str, deployment: Deployment, registry: Registry, folder: Path
) -> ActiveChallenger | None:
    """The challenger of component *name*; None when there is none, or it cannot be used."""
    wanted = deployment.challenger
    if wanted is None:
        return None
    version = VersionRef(version=wanted.version, digest=wanted.digest)
    try:
        opened = open_version(pipeline, name, version, registry, folder)
    except RegistryError as exc:
        log.warning("%s@%d cannot challenge: %s", name, wanted.version, exc)
        return None
    return ActiveChallenger(opened, wanted.share)


def open_deployed_weights(
    pipeline: Pipeline, registry: Registry, deployment: WeightsDeployment | None
) -> Weights:
    """The weights as they are deployed, or the last version that is good.

    Raises WeightsOutOfDate, or models.registry.errors.ModelNotFound, when none can be used.
    """
    if deployment is None:
        return open_weights(pipeline, registry)

    def registered(version: int) -> Callable[[], Weights]:
        return lambda: open_weights(pipeline, registry, version)

    before = [deployment.previous] if deployment.previous else []
    versions = [deployment.version, *before, *reversed(registry.weights_versions(pipeline.name))]
    return _first_usable(
        f"{WEIGHTS}@{deployment.version}",
        [registered(number) for number in dict.fromkeys(versions)],
        lambda weights: f"{WEIGHTS}@{weights.version}",
    )


def _first_usable(promoted: str, ways: Sequence[Callable[[], T]], named: Callable[[T], str]) -> T:
    """What the first of *ways* opens that does; the first one's RegistryError when none does.

    What is opened instead of what was *promoted* is logged by the name that it is given.
    """
    refused: list[RegistryError] = []
    for way in ways:
        try:
            opened = way()
        except RegistryError as exc:
            refused.append(exc)
            continue
        if refused:
            log.warning("%s is promoted, but cannot be used (%s): %s runs instead",
                        promoted, refused[0], named(opened))  # fmt: skip
        return opened
    raise refused[0]


def models_not_learned_for(
    pipeline: Pipeline, registry: Registry, folder: Path, state: ControlState, version: int
) -> list[OtherModel]:
    """The models in service that the weights of *version* were not learned for; none for 0.

    In service is what the control topic names, and else the newest, or what the file pins or names.
    """
    if version == 0:  # fixed by the pipeline file, for whatever models
        return []
    promoted = {
        name: ServedModel(f"{name}@{deployment.champion.version}", deployment.champion.digest)
        for name, deployment in state.deployments.items()
        if deployment.champion is not None
    }
    runs = in_service(pipeline, registry, folder, promoted)
    return other_models(registry, pipeline.name, registry.weights(pipeline.name, version), runs)


def open_weights(pipeline: Pipeline, registry: Registry, version: int | None = None) -> Weights:
    """The pipeline's weights: those of the file, or learned ones, the newest trained by default.

    Raises WeightsOutOfDate, or models.registry.errors.ModelNotFound.
    """
    if (fixed := pipeline.weighting.fixed_weights) is not None:
        return Weights(fixed, 0)
    learned = registry.weights(pipeline.name, version) if version else _trained(pipeline, registry)
    if set(learned.card.values) != set(pipeline.weighting.inputs):
        raise WeightsOutOfDate(
            pipeline.name, sorted(learned.card.values), pipeline.weighting.inputs
        )
    models = learned_for(registry, pipeline.name, learned.card.models)
    card = learned.card
    return Weights(card.values, learned.version, models, learned.digest, card.quarantined)


def _trained(pipeline: Pipeline, registry: Registry) -> WeightsVersion:
    """The newest weights that were trained; a monitor promotes what it makes of them."""
    numbers = reversed(registry.weights_versions(pipeline.name))
    versions = (registry.weights(pipeline.name, number) for number in numbers)
    trained = next((each for each in versions if each.card.origin == "training"), None)
    return registry.weights(pipeline.name) if trained is None else trained
