"""What decisions name, opened: pipeline files, policies, weights and models by their digests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from agents.components import ComponentNotLoadable, OpenComponent, component_of, open_component
from agents.explanations import VersionGone, place_of
from agents.replay.errors import NotMadeAgain, PinGone
from agents.weigh import DecisionRule, Weights
from models.onnx.session import ModelSession
from models.registry import ContentGone, Registry, RegistryError, digest_of
from topics.pipeline import PipelineFile, PipelineFileError, Policy, pipeline_of
from topics.records import Ints, ModelRef, Provenance

MOST_OPEN = 64
"""Of a kind; what was opened longest ago is closed for the next."""


@contextmanager
def needed_by(topic: str, partition: int, offsets: Sequence[int] | Ints) -> Iterator[None]:
    """Say which events, of ascending *offsets*, need what is not to be had: as NotMadeAgain."""
    try:
        yield
    except (PinGone, RegistryError, PipelineFileError, ComponentNotLoadable) as exc:
        raise NotMadeAgain(topic, partition, int(offsets[0]), int(offsets[-1]), exc) from exc


class PinnedVersions:
    """Opens each version once.

    `file` is the pipeline file as it is given: it stands for its own digest, for decisions from
    before they named any, and its folder is where relative paths lead.
    """

    def __init__(self, file: PipelineFile, registry: Registry) -> None:
        self.given, self._registry = file, registry
        self._files: dict[tuple[str | None, bool], PipelineFile] = {}
        self._rules: dict[tuple[int, str, Provenance | None], DecisionRule] = {}
        self._components: dict[tuple[str | None, str, ModelRef], OpenComponent | None] = {}

    @property
    def named(self) -> Mapping[str, list[str]]:
        """What decisions have named so far."""
        rules = self._rules.values()
        models = {model for _, _, model in self._components if model.digest}
        return {
            "pipeline_files": sorted({digest for digest, _ in self._files if digest is not None}),
            "weights": sorted({f"weights@{rule.weights.version}" for rule in rules}),
            "policies": sorted({digest_of(rule.policy.content) for rule in rules}),
            "models": sorted(f"{model.model} {model.digest}" for model in models),
        }

    def file(self, provenance: Provenance | None) -> PipelineFile:
        """The pipeline file that a decision was made by. Raises PinGone, PipelineFileError."""
        key: tuple[str | None, bool] = (None, False)
        if provenance is not None:
            key = (provenance.pipeline_file, provenance.no_deadline)
        if key not in self._files:
            file = self._with_digest(key[0])
            self._files[key] = file.without_deadline() if key[1] else file
        return self._files[key]

    def rule(self, weights: int, policy: str, provenance: Provenance | None) -> DecisionRule:
        """What decided: by the version of *weights* and the name of the *policy*.

        Raises PinGone and RegistryError.
        """
        key = (weights, policy, provenance)
        if key not in self._rules:
            file = self.file(provenance)
            self._rules[key] = DecisionRule.of(
                file, self._weights(file, weights, provenance),
                self._policy(file, policy, provenance), named=provenance is not None,
            )  # fmt: skip
        return self._rules[key]

    def component(
        self, provenance: Provenance | None, name: str, model: ModelRef
    ) -> OpenComponent | None:
        """What has made outputs; None for code that is not declared deterministic.

        Raises PinGone, RegistryError and ComponentNotLoadable.
        """
        key = (None if provenance is None else provenance.pipeline_file, name, model)
        if key not in self._components:
            if len(self._components) >= MOST_OPEN:
                del self._components[next(iter(self._components))]
            self._components[key] = self._open(self.file(provenance), name, model)
        return self._components[key]

    def _with_digest(self, digest: str | None) -> PipelineFile:
        given = self.given
        if digest is None or digest == digest_of(given.content):
            return given
        try:
            content = self._registry.kept(given.pipeline.name, digest)
        except ContentGone as exc:
            raise PinGone(f"the pipeline file {digest}", f"{given.path}, or the registry") from exc
        return pipeline_of(given.path, content)

    def _weights(self, file: PipelineFile, version: int, provenance: Provenance | None) -> Weights:
        if version == 0:
            return Weights(file.pipeline.weighting.fixed_weights or {}, 0)
        learned = self._registry.weights(file.pipeline.name, version)
        if provenance is not None and provenance.weights not in (None, learned.digest):
            raise PinGone(f"{learned.name} ({provenance.weights})", str(self._registry.root))
        card = learned.card
        return Weights(card.values, version, {}, learned.digest, card.quarantined)

    def _policy(self, file: PipelineFile, name: str, provenance: Provenance | None) -> Policy:
        own = file.pipeline.policy
        if provenance is None:
            if name != f"{file.pipeline.name}@{own.version}":
                raise PinGone(f"the policy {name}", str(file.path))
            return own
        if provenance.policy == digest_of(own.content):
            return own
        try:
            content = self._registry.kept(file.pipeline.name, provenance.policy)
            return Policy.model_validate_json(content)
        except (ContentGone, ValueError) as exc:
            raise PinGone(f"the policy {name} ({provenance.policy})", "the registry") from exc

    def _open(self, file: PipelineFile, name: str, model: ModelRef) -> OpenComponent | None:
        spec = file.pipeline.component(name)
        what = f"the model {model.model} ({model.digest or model.variant})"
        folder = file.path.parent
        if spec.import_path is not None:
            if not spec.is_deterministic:
                return None
            opened = open_component(file.pipeline, name, self._registry, folder)
            if opened.model.digest != model.digest:
                raise PinGone(f"the code of {name} ({model.digest})", spec.import_path)
            return opened
        session = None
        if spec.model is not None:
            try:
                session = ModelSession.open(place_of(file, self._registry, name, model))
            except VersionGone as exc:
                raise PinGone(what, f"the registry {self._registry.root}") from exc
        component = component_of(spec, session)
        component.load()
        return OpenComponent(component, model)


def provenance_of(fields: Mapping[str, Any]) -> Provenance | None:
    """What a decision record's *fields* say of what made it; None from before they did."""
    named = fields.get("provenance")
    return None if named is None else Provenance.model_validate(named)
