"""Versions in the registry: their cards, and their files when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.registry.cards import ModelCard, WeightsCard
from models.registry.digests import digest_of
from models.registry.errors import CardUnreadable, ModelCorrupt, ModelMissing
from models.registry.probe import Probe
from models.registry.store import Store


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One immutable version of a component's model."""

    component: str
    version: int
    digest: str
    file: str
    """The model's file, by its name in the store."""
    card: ModelCard
    probe_digest: str | None
    probe_file: str | None
    store: Store = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """What decisions call it: `risk@3`."""
        return f"{self.component}@{self.version}"

    @property
    def location(self) -> str:
        """The path or URL of the model's file."""
        return self.store.where(self.file)

    def read(self) -> bytes:
        """The model's bytes; ModelCorrupt or ModelMissing when they are not those of the digest."""
        return self._read(self.file, self.digest)

    def probe(self) -> Probe | None:
        """Its probe rows; None for a version that has none.

        Raises ModelCorrupt or ModelMissing.
        """
        if self.probe_digest is None or self.probe_file is None:
            return None
        content = self._read(self.probe_file, self.probe_digest)
        try:
            return Probe.from_bytes(content)
        except ValueError as exc:
            raise CardUnreadable(self.store.where(self.probe_file), str(exc)) from exc

    def _read(self, file: str, digest: str) -> bytes:
        try:
            content = self.store.read(file)
        except FileNotFoundError as exc:
            raise ModelMissing(self.store.where(file), self.name) from exc
        if (actual := digest_of(content)) != digest:
            raise ModelCorrupt(self.store.where(file), self.name, digest, actual)
        return content


@dataclass(frozen=True, slots=True)
class WeightsVersion:
    """One immutable version of a pipeline's weights."""

    version: int
    card: WeightsCard
