"""What the versions in service were trained on, put together; and which of them cannot say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.drift.reference import Reference, Series
from models.registry import ModelVersion, Registry, RegistryError, WeightsVersion
from topics.pipeline import Pipeline
from topics.records import ControlState


class NoReference(Exception):
    """A version cannot say what it was trained on."""


@dataclass(frozen=True, slots=True, eq=False)
class ServedReference:
    """The reference of what is in service."""

    reference: Reference
    versions: Mapping[str, int]
    """Component → the version that its reference is of."""
    lacking: Mapping[str, str]
    """What has no reference → why: nothing is said of its signal, nor of fields only it reads."""


def served_reference(
    pipeline: Pipeline, registry: Registry, control: ControlState
) -> ServedReference:
    """The references of all versions in service."""
    parts: list[Reference] = []
    versions: dict[str, int] = {}
    lacking: dict[str, str] = {}
    for spec in pipeline.components:
        if spec.model is None and spec.import_path is None:
            continue  # no model, so no signal that could drift
        if spec.model is None or spec.model.path is not None:
            lacking[spec.name] = "it is no version of the registry"
            continue
        champion = control.deployment(spec.name).champion
        wanted = spec.model.version if champion is None else champion.version
        try:
            version = registry.get(pipeline.name, spec.name, wanted)
            versions[spec.name] = version.version
            parts.append(_of(version))
        except (RegistryError, NoReference) as exc:
            lacking[spec.name] = str(exc)
    if pipeline.weighting.fixed_weights is not None:
        lacking["score"] = "its weights are fixed in the pipeline file"
    else:
        wanted = None if control.weights is None else control.weights.version
        try:
            parts.append(_of(registry.weights(pipeline.name, wanted)))
        except (RegistryError, NoReference) as exc:
            lacking["score"] = str(exc)
    return ServedReference(Reference.joined(parts), versions, lacking)


def label(series: Series) -> str:
    """What a series is called in metrics and records: `amount`, `signal:risk-forest`."""
    return series.name if series.source == "event" else f"signal:{series.name}"


def _of(version: ModelVersion | WeightsVersion) -> Reference:
    """The reference of a version. Raises NoReference and RegistryError."""
    content = version.reference()
    if content is None and isinstance(version, WeightsVersion) and version.card.parent is not None:
        raise NoReference(f"{version.name} has none: it was learned from outcomes, not trained")
    if content is None:
        raise NoReference(f"{version.name} has none: it was imported, or trained before there were")
    try:
        return Reference.from_bytes(content)
    except ValueError as exc:
        raise NoReference(f"that of {version.name} is not readable: {exc}") from exc
