"""Opening what the control topic says is in service."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from agents.components import OpenComponent, open_component
from agents.decisions import Weights
from agents.slot import Challenge
from models.model_inputs import WeightsOutOfDate
from models.probing import check_probe
from models.registry import Registry
from models.registry_errors import RegistryError
from models.session import ModelSession
from topics.control import WEIGHTS, Deployment, VersionRef, WeightsDeployment
from topics.pipeline import ComponentSpec, Pipeline

log = logging.getLogger(__name__)

V = TypeVar("V")
T = TypeVar("T")


class NotSwappable(RegistryError):
    """The component has no versions in the registry, or is kept on one."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"component {name} cannot be given another version: {why}")


class OtherDigest(RegistryError):
    """The registry's version is not the one that was promoted."""

    def __init__(self, model: str, promoted: str, found: str) -> None:
        super().__init__(
            f"{model} is {found} in this registry, but {promoted} was promoted: "
            "workers and whoever promotes must have one registry"
        )


def check_swappable(spec: ComponentSpec) -> None:
    """Raise NotSwappable when versions of the component are not ours to choose."""
    if spec.model is None or spec.model.estimator is None:
        raise NotSwappable(spec.name, "it has no model from the registry")
    if spec.model.version is not None:
        why = f"the pipeline file keeps it on version {spec.model.version}"
        raise NotSwappable(spec.name, why)


def open_version(
    pipeline: Pipeline, name: str, version: VersionRef, registry: Registry, folder: Path
) -> OpenComponent:
    """Component *name* with a version of its model, tested on its probe rows.

    *folder* is the pipeline file's. Raises RegistryError.
    """
    check_swappable(pipeline.component(name))
    found = registry.get(pipeline.name, name, version.version)
    if found.digest != version.digest:
        raise OtherDigest(f"{name}@{version.version}", version.digest, found.digest)
    probe = found.probe()
    if probe is not None:
        check_probe(ModelSession.open(found), probe)
    return open_component(pipeline.with_version(name, version.version), name, registry, folder)


def open_deployed(
    pipeline: Pipeline, name: str, deployment: Deployment, registry: Registry, folder: Path
) -> OpenComponent:
    """Component *name* as it is deployed: the champion, or what was before it if that fails.

    Raises RegistryError when neither can be used, ComponentNotLoadable.
    """
    spec = pipeline.component(name)
    pinned = spec.model is not None and spec.model.version is not None
    if deployment.champion is None or pinned:
        return open_component(pipeline, name, registry, folder)
    versions = [deployment.champion, *([deployment.previous] if deployment.previous else [])]
    return _first_usable(
        name, versions, lambda it: open_version(pipeline, name, it, registry, folder)
    )


def open_challenge(
    pipeline: Pipeline, name: str, deployment: Deployment, registry: Registry, folder: Path
) -> Challenge | None:
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
    return Challenge(opened, wanted.share)


def open_deployed_weights(
    pipeline: Pipeline, registry: Registry, deployment: WeightsDeployment | None
) -> Weights:
    """The weights as they are deployed, or what was before them if those cannot be used.

    Raises WeightsOutOfDate, or models.registry.ModelNotFound.
    """
    if deployment is None:
        return open_weights(pipeline, registry)
    versions = [deployment.version, *([deployment.previous] if deployment.previous else [])]
    return _first_usable(WEIGHTS, versions, lambda it: open_weights(pipeline, registry, it))


def _first_usable(what: str, versions: Sequence[V], opened: Callable[[V], T]) -> T:
    """The first of *versions* that opens; the last one's RegistryError when none does."""
    for version in versions[:-1]:
        try:
            return opened(version)
        except RegistryError as exc:
            log.warning("%s cannot be used as promoted, what was before goes on: %s", what, exc)
    return opened(versions[-1])


def open_weights(pipeline: Pipeline, registry: Registry, version: int | None = None) -> Weights:
    """The pipeline's weights: those of the file, or learned ones, the newest by default.

    Raises WeightsOutOfDate, or models.registry.ModelNotFound.
    """
    if pipeline.weighting.weights != "learned":
        return Weights(pipeline.weighting.weights, 0)
    learned = registry.weights(pipeline.name, version)
    if set(learned.card.values) != set(pipeline.weighting.inputs):
        raise WeightsOutOfDate(
            pipeline.name, sorted(learned.card.values), pipeline.weighting.inputs
        )
    return Weights(learned.card.values, learned.version)
