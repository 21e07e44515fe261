"""The digest by which files, cards and models are named."""

from __future__ import annotations

import hashlib

_PREFIX = "sha256:"


def digest_of(content: bytes) -> str:
    """The digest by which decisions name a model.

    >>> digest_of(b"")[:20]
    'sha256:e3b0c44298fc1'
    """
    return f"{_PREFIX}{hashlib.sha256(content).hexdigest()}"


def hex_of(digest: str) -> str:
    """The digits of a digest, as they stand in a file's name.

    >>> hex_of("sha256:00ff")
    '00ff'
    """
    return digest.removeprefix(_PREFIX)
