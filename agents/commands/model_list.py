"""The registry's versions as facts for tables and for scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.onnx.weighed_models import ServedModel, in_service, other_models
from models.registry import ModelVersion, Registry, RegistryError, WeightsVersion
from topics.pipeline import PipelineFile

Facts = dict[str, Any]


def listed(registry: Registry, pipeline: str, file: PipelineFile | None = None) -> Facts:
    """Every version of every component, then of the weights; `unreadable` for a bad card.

    With the pipeline's *file*, weights say which models they were not learned for of those that
    would start now: the newest, or what the file pins or names.
    """
    models = [
        _model(registry, pipeline, component, version)
        for component in registry.components(pipeline)
        for version in registry.versions(pipeline, component)
    ]
    runs = {} if file is None else in_service(file.pipeline, registry, file.path.parent, {})
    weights = [_weights(registry, pipeline, it, runs) for it in registry.weights_versions(pipeline)]
    return {"pipeline": pipeline, "models": models, "weights": weights}


def described(version: ModelVersion) -> Facts:
    """All of a model's version. Raises RegistryError when a file of it is not what it was."""
    probe = version.probe()
    return {
        "model": version.name,
        "digest": version.digest,
        "file": version.location,
        "bytes": len(version.read()),
        "probe_rows": 0 if probe is None else len(probe.rows),
        **version.card.model_dump(mode="json"),
    }


def described_weights(version: WeightsVersion) -> Facts:
    """All of a version of the weights."""
    return {"weights": version.version, **version.card.model_dump(mode="json")}


def _model(registry: Registry, pipeline: str, component: str, version: int) -> Facts:
    name: Facts = {"component": component, "version": version}
    try:
        found = registry.get(pipeline, component, version)
    except RegistryError as exc:
        return {**name, "unreadable": str(exc)}
    card = found.card
    return {
        **name, "variant": card.variant, "created_at": card.created_at, "rows": card.rows,
        "metrics": card.metrics, "digest": found.digest, "parent": card.parent,
        "estimator": card.estimator, "note": card.note,
    }  # fmt: skip


def _weights(
    registry: Registry, pipeline: str, version: int, runs: Mapping[str, ServedModel]
) -> Facts:
    try:
        found = registry.weights(pipeline, version)
        others = other_models(registry, pipeline, found, runs)
        card = found.card
    except RegistryError as exc:
        return {"version": version, "unreadable": str(exc)}
    return {
        "version": version, "created_at": card.created_at, "rows": card.rows,
        "metrics": card.metrics, "values": card.values, "parent": card.parent, "note": card.note,
        "models": card.models, "not_learned": card.not_learned,
        "other_models": {it.component: it.runs for it in others},
    }  # fmt: skip
