"""From a component's entry in the pipeline file to the running component."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import NamedTuple

from agents.components.assess_risk import AssessRisk
from agents.components.decide import Decide
from agents.components.extract_features import ExtractFeatures, PlainFeatures
from models.component import Component
from models.features import FeatureVector
from models.onnx.probing import ROUNDING, check_probe
from models.onnx.session import ModelSession
from models.registry import ModelOutOfDate, Registry, digest_of, reads
from topics.errors import AnabranchError
from topics.pipeline import ComponentSpec, Pipeline
from topics.records import ModelRef


class ComponentNotLoadable(AnabranchError):
    """A component of the user's own cannot be imported or made."""

    def __init__(self, name: str, import_path: str, cause: str) -> None:
        super().__init__(f"component {name}: import {import_path!r} does not load: {cause}")


class OpenComponent(NamedTuple):
    """A loaded component, and the model that its outputs are made by."""

    component: Component
    model: ModelRef


def open_component(
    pipeline: Pipeline, name: str, registry: Registry, folder: Path, *, to_the_bit: bool = False
) -> OpenComponent:
    """Load component *name*; model paths are relative to *folder*, the pipeline file's.

    A registered model must give its probe rows the signals that were recorded: *to_the_bit*, or up
    to rounding. Raises ComponentNotLoadable, or models.registry.errors.RegistryError for its
    model.
    """
    spec = pipeline.component(name)
    if spec.import_path is not None:
        opened = _imported(spec, folder)
    elif spec.kind == "extract_features" and spec.model is None:
        features = FeatureVector(spec.features or [])
        opened = OpenComponent(PlainFeatures(features), ModelRef(name, "", "code"))
    else:
        opened = _with_model(pipeline, spec, registry, folder, to_the_bit=to_the_bit)
    opened.component.load()
    return opened


def _with_model(
    pipeline: Pipeline, spec: ComponentSpec, registry: Registry, folder: Path, *, to_the_bit: bool
) -> OpenComponent:
    session, model = _session(pipeline, spec, registry, folder, to_the_bit=to_the_bit)
    if spec.kind == "extract_features":
        return OpenComponent(ExtractFeatures(FeatureVector(spec.features or []), session), model)
    made = AssessRisk(session) if spec.kind == "assess_risk" else Decide(session)
    return OpenComponent(made, model)


def _session(
    pipeline: Pipeline, spec: ComponentSpec, registry: Registry, folder: Path, *, to_the_bit: bool
) -> tuple[ModelSession, ModelRef]:
    if spec.model is not None and spec.model.path is not None:
        session = ModelSession.open(folder / spec.model.path)
        return session, ModelRef(
            f"{spec.name}@{Path(spec.model.path).name}", session.digest, "fp32"
        )
    wanted = spec.model.version if spec.model is not None else None
    version = registry.get(pipeline.name, spec.name, wanted)
    if not reads(pipeline, spec.name, version.card.inputs):
        model = f"{spec.name}@{version.version}"
        raise ModelOutOfDate(pipeline.name, model, version.card.inputs)
    ref = ModelRef(f"{spec.name}@{version.version}", version.digest, version.card.variant)
    session, probe = ModelSession.open(version), version.probe()
    if probe is not None:
        check_probe(session, probe, tolerance=0.0 if to_the_bit else ROUNDING)
    return session, ref


def import_component(spec: ComponentSpec, folder: Path) -> type[Component]:
    """The class that the component's import path names; ComponentNotLoadable otherwise.

    Modules are also found in *folder*, the pipeline file's, and in the working directory.
    """
    path = spec.import_path or ""
    for place in (str(folder.resolve()), str(Path.cwd())):
        if place not in sys.path:
            sys.path.append(place)
    module, _, attribute = path.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as exc:  # a user's module may fail in any way while it is imported
        raise ComponentNotLoadable(spec.name, path, f"{type(exc).__name__}: {exc}") from exc
    if not (inspect.isclass(found) and issubclass(found, Component)):
        raise ComponentNotLoadable(spec.name, path, "it is not a subclass of Component")
    return found


def _imported(spec: ComponentSpec, folder: Path) -> OpenComponent:
    """The component, named by its code: the digest of its source file."""
    kind = import_component(spec, folder)
    try:
        made = kind(**spec.options)
    except TypeError as exc:
        raise ComponentNotLoadable(spec.name, spec.import_path or "", str(exc)) from exc
    digest = digest_of(Path(inspect.getfile(kind)).read_bytes())
    return OpenComponent(made, ModelRef(f"{spec.name}@{spec.import_path}", digest, "code"))
