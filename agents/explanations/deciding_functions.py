"""The function that decided about an event: its models, weights and stages, put together again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from agents.components import ComponentNotLoadable, open_component
from agents.explanations.errors import CodeFails, VersionGone
from agents.explanations.recorded_event import RecordedEvent
from models.component import Component
from models.explain import (
    ColumnGroups,
    ComposedScore,
    Explainer,
    PureComponentFailed,
    check_columns,
    needed_components,
    run_components,
)
from models.onnx.session import MOST_MODEL_BYTES, ModelSession
from models.registry import (
    Background,
    ModelVersion,
    RecordedOutput,
    Registry,
    RegistryError,
    digest_of,
)
from topics.file_content import read_file
from topics.pipeline import ComponentSpec, Pipeline, PipelineFile, is_recorded
from topics.records import Decision, ModelRef, StageBatch

_MOST_FUNCTIONS = 16
"""Of a canary and a champion, with and without a stage or two."""
_MOST_SESSIONS = 32
_T = TypeVar("_T")
_K = TypeVar("_K")


class Versions(Protocol):
    """Where that is which decisions name."""

    def background(self, weights: int) -> tuple[Background, str]:
        """The rows that were stored with a version of the weights, and their digest.

        Raises VersionGone, and RegistryError.
        """

    def session(self, component: str, model: ModelRef) -> ModelSession:
        """The model of a component. Raises VersionGone, and RegistryError."""

    def pure_component(self, name: str, code: ModelRef) -> Component:
        """The component of one's own that is declared pure. Raises VersionGone, and CodeFails."""


class RegistryVersions:
    """In a registry, and beside the pipeline file."""

    def __init__(self, file: PipelineFile, registry: Registry) -> None:
        self._file, self._registry = file, registry

    def background(self, weights: int) -> tuple[Background, str]:
        """Raises VersionGone, and RegistryError."""
        registry, pipeline = self._registry, self._file.pipeline.name
        if weights not in registry.weights_versions(pipeline):
            raise VersionGone(f"weights@{weights}", f"the registry {registry.root}")
        version = registry.weights(pipeline, weights)
        return version.background(), version.background_digest or ""

    def session(self, component: str, model: ModelRef) -> ModelSession:
        """Raises VersionGone, and RegistryError."""
        return ModelSession.open(place_of(self._file, self._registry, component, model))

    def pure_component(self, name: str, code: ModelRef) -> Component:
        """Raises VersionGone, and CodeFails."""
        pipeline, path = self._file.pipeline, self._file.path
        imported = pipeline.component(name).import_path or ""
        try:
            opened = open_component(pipeline, name, self._registry, path.parent)
        except ComponentNotLoadable as exc:
            raise CodeFails(exc) from exc
        except Exception as exc:  # the boundary to the component's code, which may raise anything
            cause = ComponentNotLoadable(name, imported, f"{type(exc).__name__}: {exc}")
            raise CodeFails(cause) from exc
        if opened.model.digest != code.digest:
            raise VersionGone(f"the code of {name} ({code.digest})", imported)
        return opened.component


class DecidingFunction(NamedTuple):
    """What explains the decisions of one function."""

    explainer: Explainer
    groups: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    """Component whose recorded output is read → what its columns are called."""
    models: dict[str, str]
    """Component → digest, of its model or of its code."""
    background: str
    """Digest of the background rows."""

    def outputs(self, events: Sequence[RecordedEvent]) -> dict[str, RecordedOutput]:
        """What components said of these events, in the same order."""
        return {
            name: RecordedOutput(
                np.concatenate([event.outputs[name].output for event in events]),
                np.concatenate([event.outputs[name].signal for event in events]),
                columns,
            )
            for name, columns in self.columns.items()
        }


class _Key(NamedTuple):
    """By what functions differ."""

    weights: int
    shares: tuple[tuple[str, float], ...]
    models: tuple[tuple[str, ModelRef], ...]
    widths: tuple[tuple[str, int], ...]


class DecidingFunctions:
    """Puts functions together, and keeps those that were asked for last."""

    def __init__(
        self, pipeline: Pipeline, versions: Versions, *, each_column: bool = False
    ) -> None:
        self._pipeline, self._versions = pipeline, versions
        self._each_column = each_column
        self._functions: OrderedDict[_Key, DecidingFunction] = OrderedDict()
        self._sessions: OrderedDict[tuple[str, str], ModelSession] = OrderedDict()
        self._pure: OrderedDict[tuple[str, str], Component] = OrderedDict()

    def wanted(self, decision: Decision) -> list[str]:
        """The components whose record about the event says what decided, or is decided by."""
        shares = self._shares(decision)
        needed = needed_components(self._pipeline, shares)
        return [name for name in needed if name not in shares or self._is_recorded(name)]

    def of(self, event: RecordedEvent) -> DecidingFunction:
        """The function that decided about *event*. Raises NotExplained, and RegistryError."""
        key = self._key(event)
        if key not in self._functions:
            _keep(self._functions, key, self._put_together(key), _MOST_FUNCTIONS)
        self._functions.move_to_end(key)
        return self._functions[key]

    def _key(self, event: RecordedEvent) -> _Key:
        decision, rows = event.decision, event.outputs
        shares = self._shares(decision)
        models: dict[str, ModelRef] = {}
        needed = needed_components(self._pipeline, shares)
        for name in run_components(self._pipeline, needed, shares):
            if (contribution := decision.contributions.get(name)) is not None:
                models[name] = ModelRef(
                    contribution.model, contribution.digest, contribution.variant
                )
            else:
                models[name] = model_of(rows[name])
        widths = {name: row.output.shape[1] for name, row in rows.items()
                  if self._is_recorded(name)}  # fmt: skip
        return _Key(
            decision.weights, tuple(shares.items()), tuple(models.items()), tuple(widths.items())
        )

    def _put_together(self, key: _Key) -> DecidingFunction:
        pipeline = self._pipeline
        background, digest = self._versions.background(key.weights)
        columns = {name: columns_of(pipeline.component(name), width) for name, width in key.widths}
        check_columns({name: each.columns for name, each in background.outputs.items()}, columns)
        pure = {name: self._pure_component(name, code) for name, code in key.models
                if pipeline.component(name).pure}  # fmt: skip
        sessions = {name: self._session(name, model) for name, model in key.models
                    if name not in pure}  # fmt: skip
        score = ComposedScore.of(pipeline, dict(key.shares), sessions, dict(key.widths), pure)
        groups = self._groups(background)
        try:
            explainer = Explainer(score, groups, background)
        except PureComponentFailed as exc:
            raise CodeFails(exc) from exc
        models = {name: model.digest for name, model in key.models}
        return DecidingFunction(explainer, groups.names, columns, models, digest)

    def _groups(self, background: Background) -> ColumnGroups:
        if self._each_column:
            return ColumnGroups.of_each_column(self._pipeline, background)
        return ColumnGroups.of(self._pipeline)

    def _session(self, name: str, model: ModelRef) -> ModelSession:
        """Raises VersionGone."""
        key = (name, model.digest)
        if key not in self._sessions:
            _keep(self._sessions, key, self._versions.session(name, model), _MOST_SESSIONS)
        self._sessions.move_to_end(key)
        return self._sessions[key]

    def _pure_component(self, name: str, code: ModelRef) -> Component:
        """Raises VersionGone, and CodeFails."""
        key = (name, code.digest)
        if key not in self._pure:
            _keep(self._pure, key, self._versions.pure_component(name, code), _MOST_SESSIONS)
        self._pure.move_to_end(key)
        return self._pure[key]

    def _shares(self, decision: Decision) -> dict[str, float]:
        """The weights of the stages that were present, which sum to 1."""
        return {
            name: decision.contributions[name].weight
            for name in self._pipeline.weighting.inputs
            if name in decision.contributions
        }

    def _is_recorded(self, name: str) -> bool:
        return is_recorded(self._pipeline.component(name))


def model_of(row: StageBatch) -> ModelRef:
    """The model that has made a row: the challenger where that has."""
    challenged = row.challenged is not None and bool(row.challenged[0])
    return row.challenger if challenged and row.challenger is not None else row.model


def place_of(
    file: PipelineFile, registry: Registry, component: str, model: ModelRef
) -> ModelVersion | Path:
    """Where the *model* is that a decision names: a version, or the ONNX file of the pipeline file.

    Raises VersionGone, and RegistryError.
    """
    what = f"the model {model.model} ({model.digest})"
    version = version_of(registry, file.pipeline.name, component, model)
    if version is not None:
        return version
    source = file.pipeline.component(component).model
    if source is None or source.path is None:
        raise VersionGone(what, f"the registry {registry.root}")
    path, places = file.path.parent / source.path, f"{source.path}, nor in {registry.root}"
    try:
        is_there = digest_of(read_file(path, MOST_MODEL_BYTES)) == model.digest
    except OSError as exc:
        raise VersionGone(what, places) from exc
    if not is_there:
        raise VersionGone(what, places)
    return path


def version_of(
    registry: Registry, pipeline: str, component: str, model: ModelRef
) -> ModelVersion | None:
    """The version with the model's digest: that of its name first, which need not be it."""
    numbers = registry.versions(pipeline, component)
    _, _, own = model.model.rpartition("@")
    for number in sorted(numbers, key=lambda number: str(number) != own):
        try:
            version = registry.get(pipeline, component, number)
        except RegistryError:  # `models verify` says what is wrong with it
            continue
        if version.digest == model.digest:
            return version
    return None


def columns_of(spec: ComponentSpec, width: int) -> list[str]:
    """What so many columns of a component's output are called, as the pipeline file does."""
    names = [column for feature in spec.features or () for column in feature.columns]
    if len(names) == width:
        return names
    return [f"{spec.name}[{place}]" for place in range(width)] if width > 1 else [spec.name]


def _keep(kept: OrderedDict[_K, _T], key: _K, value: _T, most: int) -> None:
    kept[key] = value
    if len(kept) > most:
        kept.popitem(last=False)
