"""From a component's entry in the pipeline file to the running component.

`topics.pipeline.component_kinds` lists the kinds that come with Anabranch; `import:` names others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import NamedTuple

from models.calls import CallingComponent
from models.component import Component
from models.onnx.model_component import ModelComponent
from models.onnx.probing import ROUNDING, check_probe
from models.onnx.session import ModelSession
from models.registry import ModelOutOfDate, Registry, digest_of, reads
from topics.errors import AnabranchError
from topics.installation import imported_attribute
from topics.pipeline import ComponentSpec, ModelSpec, Pipeline, kind_of
from topics.records import ModelRef

ComponentMaker = Callable[[ComponentSpec, ModelSession | None], Component]
"""What the `implementation` of a kind is."""


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
    else:
        opened = _built_in(pipeline, spec, registry, folder, to_the_bit=to_the_bit)
    opened.component.load()
    return opened


def _built_in(
    pipeline: Pipeline, spec: ComponentSpec, registry: Registry, folder: Path, *, to_the_bit: bool
) -> OpenComponent:
    session, model = None, ModelRef(spec.name, "", "code")
    if spec.model is not None:
        session, model = _session(
            pipeline, spec, spec.model, registry, folder, to_the_bit=to_the_bit
        )
    return OpenComponent(component_of(spec, session), model)


def component_of(spec: ComponentSpec, session: ModelSession | None) -> Component:
    """A built-in component with its model, if it has one; not loaded yet."""
    make: ComponentMaker = resolve_name(kind_of(spec).implementation)
    return make(spec, session)


def model_component(_: ComponentSpec, session: ModelSession | None) -> Component:
    """A component that is its model and no more."""
    if session is None:
        raise ValueError("a component that is its model needs one")
    return ModelComponent(session)


def _session(
    pipeline: Pipeline, spec: ComponentSpec, source: ModelSpec, registry: Registry, folder: Path,
    *, to_the_bit: bool,
) -> tuple[ModelSession, ModelRef]:  # fmt: skip
    if source.path is not None and source.version is None:
        session = ModelSession.open(folder / source.path)
        return session, ModelRef(f"{spec.name}@{Path(source.path).name}", session.digest, "fp32")
    version = registry.get(pipeline.name, spec.name, source.version)
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

    Modules are also found in *folder*, the pipeline file's, and in the working directory, though
    they be in a folder that is called like a package of ours.
    """
    path = spec.import_path or ""
    try:
        kind = imported_attribute(path, [folder, Path.cwd()])
    except Exception as exc:  # a user's module may fail in any way while it is imported
        raise ComponentNotLoadable(spec.name, path, f"{type(exc).__name__}: {exc}") from exc
    if not (inspect.isclass(kind) and issubclass(kind, Component)):
        raise ComponentNotLoadable(spec.name, path, "it is not a subclass of Component")
    return kind


def _imported(spec: ComponentSpec, folder: Path) -> OpenComponent:
    """The component, named by its code: the digest of its source file."""
    kind = import_component(spec, folder)
    try:
        component: Component = kind(**spec.options)
    except TypeError as exc:
        raise ComponentNotLoadable(spec.name, spec.import_path or "", str(exc)) from exc
    if spec.calls is not None:
        component = CallingComponent(spec.name, component, spec.calls)
    digest = digest_of(Path(inspect.getfile(kind)).read_bytes())
    return OpenComponent(component, ModelRef(f"{spec.name}@{spec.import_path}", digest, "code"))
