"""Opening what the control topic says is in service."""

from __future__ import annotations

import logging
from pathlib import Path

from agents.components import OpenComponent, open_component
from agents.decisions import Weights
from models.model_inputs import WeightsOutOfDate
from models.probing import check_probe
from models.registry import Registry
from models.registry_errors import RegistryError
from models.session import ModelSession
from topics.control import Deployment, VersionRef
from topics.pipeline import ComponentSpec, Pipeline

log = logging.getLogger(__name__)


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
    try:
        return open_version(pipeline, name, deployment.champion, registry, folder)
    except RegistryError as exc:
        if deployment.previous is None:
            raise
        log.warning(
            "%s@%d cannot be used, so version %d goes on: %s",
            name, deployment.champion.version, deployment.previous.version, exc,
        )  # fmt: skip
        return open_version(pipeline, name, deployment.previous, registry, folder)


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
