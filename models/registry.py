"""The model registry: immutable versions in a directory, found by digest.

    <root>/<pipeline>/<component>/<version>/{model.onnx, card.json}
    <root>/<pipeline>/@weights/<version>/weights.json

A version is written aside and renamed into place, so a half-written one is never seen.

    RegistryError
    ├── ModelNotFound     no such model, or none yet
    ├── ModelCorrupt      the file's bytes are not those of the card
    ├── CardUnreadable    a card is not what this version of Anabranch writes
    ├── ModelOutOfDate    the pipeline file gives it other columns than it was trained on
    └── WeightsOutOfDate  the pipeline file weighs other stages
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self, TypeVar
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from topics.errors import AnabranchError

Card = TypeVar("Card", bound=BaseModel)

_WEIGHTS = "@weights"  # no component can be called that
_MODEL_FILE = "model.onnx"
_CARD_FILE = "card.json"
_WEIGHTS_FILE = "weights.json"
_SUM_TOLERANCE = 1e-9  # as for weights that a pipeline file fixes
_VERSION = re.compile(r"[1-9][0-9]*", re.ASCII)


class RegistryError(AnabranchError):
    """The registry does not hold what is asked for."""


class ModelNotFound(RegistryError):
    """No such model, or none yet."""

    def __init__(self, pipeline: str, component: str, version: int | None, root: Path) -> None:
        which = component if version is None else f"{component}@{version}"
        super().__init__(
            f"no model of {which} for pipeline {pipeline} in {root}: run "
            f"`anabranch train {pipeline}`"
        )


class ModelCorrupt(RegistryError):
    """The file's bytes are not those of the card."""

    def __init__(self, path: Path, expected: str, actual: str) -> None:
        super().__init__(
            f"{path} was changed: its digest is {actual}, its card says {expected}; "
            "remove the version or train again"
        )


class CardUnreadable(RegistryError):
    """A card is not what this version of Anabranch writes."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"{path} is not readable: {cause}; remove the version or train again")


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelCard(_Card):
    """What is known of a model."""

    estimator: str
    parameters: dict[str, bool | int | float | str | None]
    inputs: list[str]
    """Names of its input columns."""
    n_inputs: int
    rows: int
    """Rows that it was fitted on."""
    data_hash: str
    created_at: str
    metrics: dict[str, float]
    libraries: dict[str, str]
    variant: str = "fp32"
    parent: int | None = None


class WeightsCard(_Card):
    """Learned weights α, by stage."""

    values: dict[str, Annotated[float, Field(ge=0, le=1)]]
    rows: int
    created_at: str
    metrics: dict[str, float]
    models: dict[str, str]
    """Component → digest of the model whose signals they weigh."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> Self:
        if abs(sum(self.values.values()) - 1) > _SUM_TOLERANCE:
            raise ValueError(f"weights must sum to 1, these sum to {sum(self.values.values()):g}")
        return self


class _StoredCard(_Card):
    digest: str
    card: ModelCard


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One immutable version of a component's model."""

    component: str
    version: int
    digest: str
    path: Path
    card: ModelCard

    def read(self) -> bytes:
        """The model's bytes; ModelCorrupt when they are not those of the digest."""
        onnx = self.path.read_bytes()
        if (actual := digest_of(onnx)) != self.digest:
            raise ModelCorrupt(self.path, self.digest, actual)
        return onnx


@dataclass(frozen=True, slots=True)
class WeightsVersion:
    """One immutable version of a pipeline's weights."""

    version: int
    card: WeightsCard


class Registry:
    """Models and weights under *root*."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, pipeline: str, component: str, onnx: bytes, card: ModelCard) -> ModelVersion:
        """Store a new version of a component's model."""
        digest = digest_of(onnx)
        stored = _StoredCard(digest=digest, card=card).model_dump_json(indent=2).encode()
        folder = self.root / pipeline / component
        version = _store(folder, {_MODEL_FILE: onnx, _CARD_FILE: stored})
        return ModelVersion(component, version, digest, folder / str(version) / _MODEL_FILE, card)

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
        folder = self.root / pipeline / component / str(version)
        if not folder.is_dir():
            raise ModelNotFound(pipeline, component, version, self.root)
        stored = _read_card(folder / _CARD_FILE, _StoredCard)
        return ModelVersion(component, version, stored.digest, folder / _MODEL_FILE, stored.card)

    def versions(self, pipeline: str, component: str) -> list[int]:
        """The versions there are, ascending."""
        return _versions(self.root / pipeline / component)

    def has(self, pipeline: str, component: str) -> bool:
        """Whether there is any version."""
        return bool(self.versions(pipeline, component))

    def add_weights(self, pipeline: str, card: WeightsCard) -> WeightsVersion:
        """Store a new version of the pipeline's weights."""
        content = {_WEIGHTS_FILE: card.model_dump_json(indent=2).encode()}
        return WeightsVersion(_store(self.root / pipeline / _WEIGHTS, content), card)

    def weights(self, pipeline: str, version: int | None = None) -> WeightsVersion:
        """A version of the weights, the newest by default; ModelNotFound when there is none."""
        versions = _versions(self.root / pipeline / _WEIGHTS)
        wanted = version if version is not None else max(versions, default=0)
        if wanted not in versions:
            raise ModelNotFound(pipeline, "weights", version, self.root)
        path = self.root / pipeline / _WEIGHTS / str(wanted) / _WEIGHTS_FILE
        return WeightsVersion(wanted, _read_card(path, WeightsCard))

    def has_weights(self, pipeline: str) -> bool:
        """Whether there are learned weights."""
        return bool(_versions(self.root / pipeline / _WEIGHTS))


def digest_of(content: bytes) -> str:
    """The digest by which decisions name a model.

    >>> digest_of(b"")[:20]
    'sha256:e3b0c44298fc1'
    """
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _versions(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(entry.name) for entry in folder.iterdir() if _VERSION.fullmatch(entry.name))


def _store(folder: Path, files: Mapping[str, bytes]) -> int:
    """Write *files* as the next version; the rename makes them visible at once or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    # Not mkdtemp: only its owner could read the version, not a worker of another user.
    aside = folder / f".new-{uuid4().hex}"
    aside.mkdir()
    try:
        for name, content in files.items():
            with (aside / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync(aside)
        while True:
            version = max(_versions(folder), default=0) + 1
            try:
                aside.rename(folder / str(version))
            except OSError:
                if not (folder / str(version)).exists():
                    raise
                continue  # another process took that number
            _sync(folder)
            return version
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Put the folder's names on the disk; fsync of a file does not."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_card(path: Path, kind: type[Card]) -> Card:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as exc:
        raise CardUnreadable(path, str(exc).splitlines()[0]) from exc
