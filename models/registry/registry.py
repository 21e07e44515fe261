"""The model registry: immutable versions in a directory or an object store.

    <root>/<pipeline>/@files/<sha256>.onnx            models, by digest
    <root>/<pipeline>/@files/<sha256>.npz             probe and background rows, references
    <root>/<pipeline>/@files/<sha256>.skops           fitted estimators that renewals go on with
    <root>/<pipeline>/<component>/<version>/card.json
    <root>/<pipeline>/@weights/<version>/weights.json
    <root>/<pipeline>/@decided-by/<sha256>            pipeline files and policies, by digest

A version is its card. Its files are written first, under their digests: equal models are one
file, a file never has to be changed, and a card can name only what is already there. Files are a
pipeline's, not the whole registry's, so that a pipeline can be copied, shared and cleaned up
alone. Then the card is made visible in one step that only one process can win, by a rename or by
an exclusive create (`models.registry.store`). So a half-written version is never seen, two trainers
never share a number, and what a killed one leaves is at most files that no card names, which
`anabranch models gc` removes. Every file and card is checked against its digest when it is read
(`models.registry.card_files` says what that protects from).

Pipeline files and policies that have decided are kept for good: decisions name them by digest, and
they are small.

Versions as they were written before there was `@files`, with their `model.onnx` beside the card,
are read as they are; their cards have no digest of their own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from models.registry.background import Background
from models.registry.card_files import (
    Stored,
    StoredModel,
    StoredWeights,
    card_digest,
    digest_of,
    hex_of,
    is_digest,
    opened,
    sealed,
)
from models.registry.cards import ModelCard, Signature, WeightsCard
from models.registry.errors import (
    CardUnreadable,
    ContentGone,
    ModelCorrupt,
    ModelMissing,
    ModelNotFound,
    NoBackground,
    RegistryError,
    StoreFailed,
    StoreNotUsable,
)
from models.registry.probe import Probe
from models.registry.store import LocalStore, Store

__all__ = [
    "CardUnreadable", "ContentGone", "ModelCard", "ModelCorrupt", "ModelMissing", "ModelNotFound",
    "ModelVersion", "Registry", "RegistryError", "Signature", "StoreFailed", "StoreNotUsable",
    "WeightsCard", "WeightsVersion", "digest_of",
]  # fmt: skip

FILES = "@files"  # no component can be called that
WEIGHTS = "@weights"
DECIDED_BY = "@decided-by"
CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.json"
_MODEL_FILE_OF_FORMAT_1 = "model.onnx"
_VERSION = re.compile(r"[1-9][0-9]*", re.ASCII)


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
    reference_digest: str | None
    reference_file: str | None
    state_digest: str | None
    state_file: str | None
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
        return _content(self.store, self.file, self.digest, self.name)

    def probe(self) -> Probe | None:
        """Its probe rows; None for a version that has none.

        Raises ModelCorrupt or ModelMissing.
        """
        if self.probe_digest is None or self.probe_file is None:
            return None
        content = _content(self.store, self.probe_file, self.probe_digest, self.name)
        try:
            return Probe.from_bytes(content)
        except ValueError as exc:
            raise CardUnreadable(self.store.where(self.probe_file), str(exc)) from exc

    def reference(self) -> bytes | None:
        """What drift is measured against, see `models.drift`; None for a version without.

        Raises ModelCorrupt or ModelMissing.
        """
        return _reference(self.store, self.reference_file, self.reference_digest, self.name)

    def state(self) -> bytes | None:
        """The fitted estimator, see `models.training.training_state`; None for a version without.

        Raises ModelCorrupt or ModelMissing.
        """
        return _reference(self.store, self.state_file, self.state_digest, self.name)


@dataclass(frozen=True, slots=True)
class WeightsVersion:
    """One immutable version of a pipeline's weights."""

    pipeline: str
    version: int
    digest: str
    """Of its card, which holds all that it says."""
    card: WeightsCard
    background_digest: str | None
    background_file: str | None
    reference_digest: str | None
    reference_file: str | None
    store: Store = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """What people call it: `weights@3`."""
        return f"weights@{self.version}"

    def read(self) -> bytes:
        """The card's file; CardUnreadable when it is no longer the one of the digest."""
        file = f"{self.pipeline}/{WEIGHTS}/{self.version}/{WEIGHTS_FILE}"
        content = self.store.read(file)
        if card_digest(content) != self.digest:
            raise CardUnreadable(self.store.where(file), "it was changed")
        return content

    def background(self) -> Background:
        """What explanations of its decisions compare an event with.

        Raises NoBackground, ModelCorrupt, ModelMissing or CardUnreadable.
        """
        if self.background_digest is None or self.background_file is None:
            raise NoBackground(self.pipeline, self.name)
        content = _content(self.store, self.background_file, self.background_digest, self.name)
        try:
            return Background.from_bytes(content)
        except ValueError as exc:
            raise CardUnreadable(self.store.where(self.background_file), str(exc)) from exc

    def reference(self) -> bytes | None:
        """What drift of the score is measured against; None for a version without.

        Raises ModelCorrupt or ModelMissing.
        """
        return _reference(self.store, self.reference_file, self.reference_digest, self.name)


class Registry:
    """Models and weights under *root*, a directory or an fsspec URL."""

    def __init__(self, root: Path | str) -> None:
        """Opens nothing yet. Raises MissingExtra or StoreNotUsable for a URL."""
        self.root = root
        self.store = store_at(root)

    def add(
        self,
        pipeline: str,
        component: str,
        onnx: bytes,
        card: ModelCard,
        probe: Probe | None = None,
        *,
        reference: bytes | None = None,
        state: bytes | None = None,
    ) -> ModelVersion:
        """Store a new version of a component's model, with its *probe* rows.

        *reference* is what drift is measured against, *state* the fitted estimator that the next
        version goes on with.

        Raises StoreFailed or StoreNotUsable; then there is no new version.
        """
        digest, probe_digest = digest_of(onnx), None
        self.store.put(_file(pipeline, digest, "onnx"), onnx)
        if probe is not None:
            content = probe.to_bytes()
            probe_digest = digest_of(content)
            self.store.put(_file(pipeline, probe_digest, "npz"), content)
        stored = StoredModel(
            of="", digest=digest, probe=probe_digest, card=card,
            reference=self._put(pipeline, reference, "npz"),
            state=self._put(pipeline, state, "skops"),
        )  # fmt: skip
        version, _ = self._claim(pipeline, component, CARD_FILE, stored)
        return self._version(pipeline, component, version, stored)

    def latest(self, pipeline: str, component: str) -> ModelVersion:
        """The newest version; ModelNotFound when there is none."""
        versions = self.versions(pipeline, component)
        if not versions:
            raise ModelNotFound(pipeline, component, None, self.root)
        return self.get(pipeline, component, versions[-1])

    def get(self, pipeline: str, component: str, version: int | None) -> ModelVersion:
        """One version, None for the newest. Raises ModelNotFound or CardUnreadable."""
        if version is None:
            return self.latest(pipeline, component)
        stored, _ = self._read(pipeline, component, version, CARD_FILE, StoredModel)
        return self._version(pipeline, component, version, stored)

    def versions(self, pipeline: str, component: str) -> list[int]:
        """The versions there are, ascending."""
        names = self.store.entries(f"{pipeline}/{component}")
        return sorted(int(name) for name in names if _VERSION.fullmatch(name))

    def has(self, pipeline: str, component: str) -> bool:
        """Whether there is any version."""
        return bool(self.versions(pipeline, component))

    def components(self, pipeline: str) -> list[str]:
        """The components that there are versions of, also those of an older pipeline file."""
        names = sorted(self.store.entries(pipeline))
        return [name for name in names if name[0] not in "@." and self.has(pipeline, name)]

    def add_weights(
        self,
        pipeline: str,
        card: WeightsCard,
        background: Background | None = None,
        *,
        reference: bytes | None = None,
    ) -> WeightsVersion:
        """Store a new version of the pipeline's weights, with its *background* rows.

        Raises StoreFailed or StoreNotUsable; then there is no new version.
        """
        digest = None
        if background is not None:
            content = background.to_bytes()
            digest = digest_of(content)
            self.store.put(_file(pipeline, digest, "npz"), content)
        stored = StoredWeights(
            of="", background=digest, card=card, reference=self._put(pipeline, reference, "npz")
        )
        version, content = self._claim(pipeline, WEIGHTS, WEIGHTS_FILE, stored)
        return self._weights_version(pipeline, version, stored, card_digest(content))

    def weights(self, pipeline: str, version: int | None = None) -> WeightsVersion:
        """A version of the weights, the newest by default; ModelNotFound when there is none."""
        versions = self.weights_versions(pipeline)
        wanted = version if version is not None else max(versions, default=0)
        if wanted not in versions:
            raise ModelNotFound(pipeline, "weights", version, self.root, versions)
        stored, content = self._read(pipeline, WEIGHTS, wanted, WEIGHTS_FILE, StoredWeights)
        return self._weights_version(pipeline, wanted, stored, card_digest(content))

    def weights_versions(self, pipeline: str) -> list[int]:
        """The versions of the weights, ascending."""
        return self.versions(pipeline, WEIGHTS)

    def has_weights(self, pipeline: str) -> bool:
        """Whether there are learned weights."""
        return bool(self.weights_versions(pipeline))

    def keep(self, pipeline: str, content: bytes) -> str:
        """Keep the content of a pipeline file or a policy that decides; its digest.

        Nothing is written where it is kept already. Raises StoreFailed.
        """
        digest = digest_of(content)
        file = _decided_by(pipeline, digest)
        try:
            whole = digest_of(self.store.read(file)) == digest
        except FileNotFoundError:
            whole = False
        if not whole:
            self.store.put(file, content)
        return digest

    def kept(self, pipeline: str, digest: str) -> bytes:
        """What `keep` was given. Raises ContentGone, and StoreFailed."""
        file = _decided_by(pipeline, digest)
        if not is_digest(digest):  # of a record that anybody may have written: no path
            raise ContentGone(self.store.where(_decided_by(pipeline, "")), digest, "it is none")
        try:
            content = self.store.read(file)
        except FileNotFoundError as exc:
            raise ContentGone(self.store.where(file), digest, "it is not there") from exc
        if (actual := digest_of(content)) != digest:
            raise ContentGone(self.store.where(file), digest, f"its digest is {actual}")
        return content

    def _put(self, pipeline: str, content: bytes | None, suffix: str) -> str | None:
        if content is None:
            return None
        digest = digest_of(content)
        self.store.put(_file(pipeline, digest, suffix), content)
        return digest

    def _claim(
        self, pipeline: str, component: str, file: str, stored: StoredModel | StoredWeights
    ) -> tuple[int, bytes]:
        """Write a card under the next number that is free; its content, too."""
        number = 0
        while True:
            # Not below one that was refused: a listing may be older than the refusal.
            number = max(number, *self.versions(pipeline, component), 0) + 1
            content = sealed(stored.model_copy(update={"of": f"{component}@{number}"}))
            if self.store.claim(f"{pipeline}/{component}/{number}", file, content):
                return number, content

    def _read(
        self, pipeline: str, component: str, version: int, file: str, kind: type[Stored]
    ) -> tuple[Stored, bytes]:
        name = f"{pipeline}/{component}/{version}/{file}"
        try:
            content = self.store.read(name)
        except FileNotFoundError as exc:
            if version not in (there := self.versions(pipeline, component)):
                raise ModelNotFound(pipeline, component, version, self.root, there) from exc
            raise CardUnreadable(self.store.where(name), "it is missing") from exc
        stored = opened(content, f"{component}@{version}", kind, self.store.where(name))
        return stored, content

    def _version(
        self, pipeline: str, component: str, version: int, stored: StoredModel
    ) -> ModelVersion:
        file = _file(pipeline, stored.digest, "onnx")
        if stored.format == 1:
            file = f"{pipeline}/{component}/{version}/{_MODEL_FILE_OF_FORMAT_1}"
        probe = _file(pipeline, stored.probe, "npz") if stored.probe else None
        reference = _file(pipeline, stored.reference, "npz") if stored.reference else None
        state = _file(pipeline, stored.state, "skops") if stored.state else None
        return ModelVersion(
            component, version, stored.digest, file, stored.card, stored.probe, probe,
            stored.reference, reference, stored.state, state, self.store,
        )  # fmt: skip

    def _weights_version(
        self, pipeline: str, version: int, stored: StoredWeights, digest: str
    ) -> WeightsVersion:
        background = stored.background
        file = None if background is None else _file(pipeline, background, "npz")
        reference = _file(pipeline, stored.reference, "npz") if stored.reference else None
        return WeightsVersion(
            pipeline, version, digest, stored.card, background, file, stored.reference, reference,
            self.store,
        )  # fmt: skip


def weights_card(content: bytes, version: int, location: str) -> StoredWeights:
    """What the file of a card of weights holds, called *location* in errors.

    Raises CardUnreadable.
    """
    return opened(content, f"{WEIGHTS}@{version}", StoredWeights, location)


def store_at(root: Path | str) -> Store:
    """The store at a directory or an fsspec URL. Raises MissingExtra or StoreNotUsable."""
    if isinstance(root, Path) or "://" not in root:
        return LocalStore(Path(root))
    scheme, _, rest = root.partition("://")
    if scheme in ("file", "local"):
        return LocalStore(Path(rest))  # whose renames are safer than fsspec's writes
    from models.registry.remote_store import RemoteStore

    return RemoteStore(root)


def _content(store: Store, file: str, digest: str, of: str) -> bytes:
    """The bytes of a version's file; ModelCorrupt or ModelMissing when they are not there."""
    try:
        content = store.read(file)
    except FileNotFoundError as exc:
        raise ModelMissing(store.where(file), of) from exc
    if (actual := digest_of(content)) != digest:
        raise ModelCorrupt(store.where(file), of, digest, actual)
    return content


def _reference(store: Store, file: str | None, digest: str | None, of: str) -> bytes | None:
    return None if file is None or digest is None else _content(store, file, digest, of)


def _decided_by(pipeline: str, digest: str) -> str:
    return f"{pipeline}/{DECIDED_BY}/{hex_of(digest)}"


def _file(pipeline: str, digest: str, suffix: str) -> str:
    return f"{pipeline}/{FILES}/{hex_of(digest)}.{suffix}"
