"""Which models weights were learned for, and whether others are in service.

Weights are learned on the signals of certain models, and name their digests. With another model
they are weights of something else: the sum is still a number, and nobody would notice. So it is
said.

A digest is of bits, and a variant (fp16, int8, …) has its own. For weights it counts as the model
that it was made of: `models optimise` registers one only where, with these weights, it flips no
more decisions than the pipeline file allows.

RegistryError
└── WeightsOfOtherModels   `weights: strict`, and another model is in service
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from models.onnx.session import ModelSession
from models.registry import FP32, ModelVersion, Registry, RegistryError, WeightsVersion
from topics.pipeline import Pipeline

_SHOWN = len("sha256:") + 12

DigestsByComponent = Mapping[str, frozenset[str]]
"""Component → digests of the models that weights hold for."""


class ServedModel(NamedTuple):
    """A model that runs, or would."""

    name: str
    """What decisions call it: `risk@3`."""
    digest: str


class OtherModel(NamedTuple):
    """A model in service that weights were not learned for."""

    component: str
    learned_for: str
    """A version that the weights hold for, or the digest where the registry has none."""
    runs: str

    def __str__(self) -> str:
        return f"{self.runs} instead of {self.learned_for}"


class WeightsOfOtherModels(RegistryError):
    """The pipeline file wants weights that were learned for the models in service."""

    def __init__(self, pipeline: str, version: int, others: Sequence[OtherModel]) -> None:
        super().__init__(
            f"weights@{version} of pipeline {pipeline} were learned for other models than those in "
            f"service ({', '.join(map(str, others))}), and the pipeline file says weights: strict: "
            "put the weights or the models that belong together into service (anabranch models "
            f"promote), or run `anabranch train {pipeline}`"
        )


def learned_for(registry: Registry, pipeline: str, models: Mapping[str, str]) -> DigestsByComponent:
    """The digests that weights hold for whose card names *models*: those, and their variants'."""
    digests = {}
    for component, digest in models.items():
        versions = _versions(registry, pipeline, component)
        roots = {
            _root(version, versions) for version in versions.values() if version.digest == digest
        }
        family = [
            version.digest for version in versions.values() if _root(version, versions) in roots
        ]
        digests[component] = frozenset([digest, *family])
    return digests


def in_service(
    pipeline: Pipeline, registry: Registry, folder: Path, promoted: Mapping[str, ServedModel]
) -> dict[str, ServedModel]:
    """The models that run when all starts now, as far as that is known from outside.

    `promoted` are those that the control topic names. *folder* is the pipeline file's. What
    cannot be opened is left out: its own component says so.
    """
    models = {}
    for spec in pipeline.components:
        name, model = spec.name, spec.model
        if model is None:
            continue
        try:
            if name in promoted:
                models[name] = promoted[name]
            elif model.path is not None:
                digest = ModelSession.open(folder / model.path).digest
                models[name] = ServedModel(f"{name}@{Path(model.path).name}", digest)
            else:
                version = registry.get(pipeline.name, name, model.version)
                models[name] = ServedModel(version.name, version.digest)
        except RegistryError:
            continue
    return models


def other_models(
    registry: Registry, pipeline: str, weights: WeightsVersion, runs: Mapping[str, ServedModel]
) -> list[OtherModel]:
    """Those of the models that run which *weights* were not learned for."""
    digests = learned_for(registry, pipeline, weights.card.models)
    return [
        OtherModel(name, _named(registry, pipeline, name, weights.card.models[name]), model.name)
        for name, model in runs.items()
        if name in digests and model.digest not in digests[name]
    ]


def _named(registry: Registry, pipeline: str, component: str, digest: str) -> str:
    """The newest version with that digest; the digest itself where there is none."""
    versions = _versions(registry, pipeline, component).values()
    same = [version.name for version in versions if version.digest == digest]
    return same[-1] if same else f"{component} {digest[:_SHOWN]}"


def _versions(registry: Registry, pipeline: str, component: str) -> dict[int, ModelVersion]:
    versions = {}
    for number in registry.versions(pipeline, component):
        try:
            versions[number] = registry.get(pipeline, component, number)
        except RegistryError:  # `models verify` says what is wrong with it
            continue
    return versions


def _root(version: ModelVersion, versions: Mapping[int, ModelVersion]) -> int:
    """The version that a variant was made of, or its own number."""
    while version.card.variant != FP32 and (parent := versions.get(version.card.parent or 0)):
        version = parent
    return version.version
