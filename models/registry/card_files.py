"""Cards as files that show when they were changed.

The first line of a card is the digest of all that follows it:

    {"card_digest": "sha256:5f…",
      "format": 2,
      "of": "risk@3",
      …

so `tail -n +2 card.json | sha256sum` says whether it is whole. `of` is the version that it is
the card of, so that it is refused in any other place.

This finds flipped bits, cut-off and half-copied files, edits by hand, and cards that were moved.
It is no signature: who may write to the registry can write another card with a digest that fits.
Against such people there are the permissions of the directory or bucket, and the digests on the
topics: a decision names the model that made it.

Cards written before format 2 have no digest; they are read as they are.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Literal, Self, TypeVar

from pydantic import StringConstraints, ValidationError

from models.registry.cards import Card, ModelCard, WeightsCard
from models.registry.errors import CardUnreadable

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]

_PREFIX = "sha256:"
_DIGEST = re.compile(rf"{_PREFIX}[0-9a-f]{{64}}")
_START = b'{"card_digest": "sha256:'
_FIRST_LINE = len(_START) + 64 + len(b'",\n')


def digest_of(content: bytes) -> str:
    """The digest by which decisions name a model.

    >>> digest_of(b"")[:20]
    'sha256:e3b0c44298fc1'
    """
    return f"{_PREFIX}{hashlib.sha256(content).hexdigest()}"


def is_digest(text: str) -> bool:
    """Whether a word has the form of a digest.

    >>> is_digest("sha256:" + 64 * "0"), is_digest("sha256:../../secret")
    (True, False)
    """
    return _DIGEST.fullmatch(text) is not None


def hex_of(digest: str) -> str:
    """The digits of a digest, as they stand in a file's name.

    >>> hex_of("sha256:00ff")
    '00ff'
    """
    return digest.removeprefix(_PREFIX)


class StoredModel(Card):
    """A model's card and the files that belong to it."""

    format: Literal[1, 2] = 2
    """1: written before cards had digests; the model's file is beside its card."""
    of: str
    digest: Digest
    """Of the model's file."""
    probe: Digest | None = None
    """Digest of the file of probe rows, where there are some."""
    reference: Digest | None = None
    """Digest of what drift is measured against: what it read and said in training."""
    state: Digest | None = None
    """Digest of the fitted estimator, where renewals go on with its fit."""
    card: ModelCard

    @classmethod
    def of_format_1(cls, content: bytes, of: str) -> Self:
        """Read a card that has no digest of its own."""
        bare = _ModelOfFormat1.model_validate_json(content)
        return cls(format=1, of=of, digest=bare.digest, card=bare.card)


class StoredWeights(Card):
    """The card of weights, which are all in it."""

    format: Literal[1, 2] = 2
    of: str
    background: Digest | None = None
    """Digest of the file of background rows, where there are some."""
    reference: Digest | None = None
    """Digest of what drift of the score is measured against."""
    card: WeightsCard

    @classmethod
    def of_format_1(cls, content: bytes, of: str) -> Self:
        """Read a card that has no digest of its own."""
        return cls(format=1, of=of, card=WeightsCard.model_validate_json(content))


class _ModelOfFormat1(Card):
    digest: str
    card: ModelCard


Stored = TypeVar("Stored", StoredModel, StoredWeights)


def sealed(stored: StoredModel | StoredWeights) -> bytes:
    """The file of a card."""
    rest = stored.model_dump_json(indent=2).encode().removeprefix(b"{\n")
    return _first_line(rest) + rest


def opened(content: bytes, of: str, kind: type[Stored], location: str) -> Stored:
    """The card of version *of* in a file's *content*; CardUnreadable when it is not that."""
    try:
        if not content.startswith(_START):
            return kind.of_format_1(content, of)
        rest = content[_FIRST_LINE:]
        if content[:_FIRST_LINE] != _first_line(rest):
            raise CardUnreadable(location, "it was changed: its first line is not its digest")
        stored = kind.model_validate_json(b"{" + rest)
    except ValidationError as exc:
        raise CardUnreadable(location, str(exc).splitlines()[0]) from exc
    if stored.of != of:
        raise CardUnreadable(location, f"it is the card of {stored.of}, not of {of}")
    return stored


def card_digest(content: bytes) -> str:
    """The digest in a card's first line; of one that has none, that of the whole file."""
    return digest_of(content[_FIRST_LINE:] if content.startswith(_START) else content)


def _first_line(rest: bytes) -> bytes:
    return b'{"card_digest": "%s",\n' % digest_of(rest).encode()
