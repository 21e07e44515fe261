"""What the registry cannot do.

RegistryError
├── ModelNotFound        no such model, or none yet
├── NothingRegistered    no version of anything
├── NoBackground         nothing to compare an event with when it is explained
├── ModelMissing         a card names a file that is not there
├── ModelCorrupt         a file's bytes are not those of its card
├── ContentGone          a pipeline file or policy that has decided is not there any more
├── CardUnreadable       a card was changed, or is not what this version of Anabranch writes
├── StoreFailed          the directory or the object store cannot be read or written
├── StoreNotUsable       the object store's driver is missing, or lets two take one number
├── ProbeFailed          a model does not say of its probe rows what its card says (models.onnx)
├── ModelUnreadable, ModelSignatureError       (models.onnx)
├── WeightsOfOtherModels weights: strict, and other models are in service (models.onnx)
├── ModelOutOfDate, WeightsOutOfDate, WrongWidth, WidthsUnknown    (model_inputs)
└── NotImportable, ImportRefused               (models.onnx)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from topics.errors import AnabranchError


class RegistryError(AnabranchError):
    """The registry does not hold what is asked for."""


class ModelNotFound(RegistryError):
    """No such model, or none yet."""

    def __init__(
        self, pipeline: str, component: str, version: int | None, root: Path | str,
        there: Sequence[int] = (),
    ) -> None:  # fmt: skip
        which = component if version is None else f"{component}@{version}"
        if version is None:
            todo = f"run `anabranch train {pipeline}`"
        elif there:
            known = ", ".join(map(str, there))
            todo = f"there are versions {known}: name one of these, or none for the newest"
        else:
            todo = (
                "there is none at all: take out the version that is asked for (model.version in "
                f"the pipeline file), then run `anabranch train {pipeline}`"
            )
        super().__init__(f"no model of {which} for pipeline {pipeline} in {root}: {todo}")


class NothingRegistered(RegistryError):
    """No version of anything."""

    def __init__(self, pipeline: str, root: Path | str) -> None:
        super().__init__(
            f"nothing is registered for {pipeline} in {root}: run `anabranch train {pipeline}`, "
            "or name another registry with ANABRANCH_REGISTRY"
        )


class NoBackground(RegistryError):
    """Weights that have no background rows, which explanations need."""

    def __init__(self, pipeline: str, weights: str) -> None:
        super().__init__(
            f"{weights} of pipeline {pipeline} cannot be explained: no background rows were "
            f"stored with them; run `anabranch train {pipeline}` and `anabranch models promote "
            f"{pipeline}/@weights`: what these weights decide can be explained"
        )


class ModelMissing(RegistryError):
    """A card names a file that is not there."""

    def __init__(self, location: str, model: str) -> None:
        super().__init__(
            f"{location} is missing, though the card of {model} names it; put it back, remove "
            "the version or train again"
        )


class ModelCorrupt(RegistryError):
    """A file's bytes are not those of its card."""

    def __init__(self, location: str, model: str, expected: str, actual: str) -> None:
        super().__init__(
            f"{location} was changed: its digest is {actual}, the card of {model} says "
            f"{expected}; remove the version or train again"
        )


class ContentGone(RegistryError):
    """A pipeline file or policy that has decided is not there, or is another one."""

    def __init__(self, location: str, digest: str, cause: str) -> None:
        super().__init__(
            f"{location} should hold what decisions name as {digest}: {cause}; put it back, from "
            "where the pipeline file is kept, or name another registry with ANABRANCH_REGISTRY"
        )


class CardUnreadable(RegistryError):
    """A card was changed, or is not what this version of Anabranch writes."""

    def __init__(self, location: str, cause: str) -> None:
        super().__init__(f"{location} is not readable: {cause}; remove the version or train again")


class StoreFailed(RegistryError):
    """The directory or the object store cannot be read or written."""

    def __init__(self, location: str, cause: BaseException) -> None:
        known = cause.strerror if isinstance(cause, OSError) else None
        reason = known or " ".join(str(cause).split()) or type(cause).__name__
        super().__init__(f"{location}: {reason}")


class StoreNotUsable(RegistryError):
    """The object store's driver is missing, or lets two take one number."""

    def __init__(self, root: str, cause: str) -> None:
        super().__init__(f"{root} cannot be a registry: {cause}")
