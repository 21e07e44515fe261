"""A registry that knows what a renewal has registered already: a step that is run again adds none.

Between the registration of a version and the record that says so a trainer may be killed. Training
gives the same models to the byte again, so the version that is there already is the one.
"""

from __future__ import annotations

from models.registry import (
    Background,
    ModelCard,
    ModelVersion,
    Probe,
    Registry,
    WeightsCard,
    WeightsVersion,
    digest_of,
)

_LOOKED_AT = 50
"""The newest versions, among which those of this renewal are."""


class NamedVersions(Registry):
    """A registry, for the versions of one renewal: their cards' notes name it."""

    def __init__(self, registry: Registry, name: str) -> None:
        super().__init__(registry.root)
        self._name = name

    def add(
        self, pipeline: str, component: str, onnx: bytes, card: ModelCard,
        probe: Probe | None = None, *, reference: bytes | None = None, state: bytes | None = None,
    ) -> ModelVersion:  # fmt: skip
        """The version of that model that this renewal has, or a new one."""
        note = self._note(card.note)
        digest = digest_of(onnx)
        for version in self._newest(pipeline, component):
            known = self.get(pipeline, component, version)
            if (known.digest, known.card.note) == (digest, note):
                return known
        named = card.model_copy(update={"note": note})
        return super().add(
            pipeline, component, onnx, named, probe, reference=reference, state=state
        )

    def add_weights(
        self, pipeline: str, card: WeightsCard, background: Background | None = None, *,
        reference: bytes | None = None,
    ) -> WeightsVersion:  # fmt: skip
        """Those weights of this renewal, or new ones."""
        note = self._note(card.note)
        for version in reversed(self.weights_versions(pipeline)[-_LOOKED_AT:]):
            known = self.weights(pipeline, version)
            if (known.card.values, known.card.models, known.card.note) == (
                card.values, card.models, note,
            ):  # fmt: skip
                return known
        named = card.model_copy(update={"note": note})
        return super().add_weights(pipeline, named, background, reference=reference)

    def _newest(self, pipeline: str, component: str) -> list[int]:
        return [*reversed(self.versions(pipeline, component)[-_LOOKED_AT:])]

    def _note(self, note: str) -> str:
        return f"{self._name}: {note}" if note else self._name
