"""Whether every file of a pipeline's models is what its card says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from models.onnx.probing import check_probe
from models.onnx.session import ModelSession
from models.registry import WEIGHTS, ModelVersion, Registry, RegistryError


@dataclass(frozen=True, slots=True)
class VersionCheck:
    """One version that was looked at."""

    component: str
    """Or `@weights`."""
    version: int
    wrong: str | None
    """What is wrong with it; None when nothing is."""


def verify_versions(
    registry: Registry, pipeline: str, component: str | None = None, *, run: bool = False
) -> Iterator[VersionCheck]:
    """Check card, model and probe rows of every version, and the weights with their background.

    With *run*, each model is also opened, and asked for its probe rows' signals. Only one
    component's with *component*, which may be `@weights`.
    """
    for name in [component] if component else [*registry.components(pipeline), WEIGHTS]:
        for version in registry.versions(pipeline, name):
            yield VersionCheck(name, version, _wrong(registry, pipeline, name, version, run=run))


def _wrong(
    registry: Registry, pipeline: str, component: str, version: int, *, run: bool
) -> str | None:
    try:
        if component == WEIGHTS:
            weights = registry.weights(pipeline, version)
            if weights.background_digest is not None:
                weights.background()
            weights.reference()
        else:
            _check(registry.get(pipeline, component, version), run=run)
    except RegistryError as exc:
        return str(exc)
    return None


def _check(version: ModelVersion, *, run: bool) -> None:
    content, probe = version.read(), version.probe()
    version.reference()
    version.state()
    if run:
        session = ModelSession.of(content, version.location)
        if probe is not None:
            check_probe(session, probe)
