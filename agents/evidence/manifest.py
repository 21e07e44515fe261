"""The manifest: what is in a pack, by digest, and where it was made.

It begins with the digest of all that follows in it, as cards of the registry do
(`models.registry.card_files`): so a changed manifest is found. That is no signature; who makes a
manifest anew makes a digest that fits. What holds against such people are the SHA-256 of the whole
file that is printed when a pack is made, and what is still on the topics.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from agents.evidence.archive import FIRST, MOST_BYTES, MOST_ENTRIES
from agents.evidence.environment import Environment
from agents.evidence.errors import PackDamaged
from models.registry import digest_of
from topics.records import Source

EVIDENCE_SCHEMA: Final = 1
"""Version of the pack's form, raised as that of decisions is."""

_START = b'{"manifest_digest": "%s",\n'
_FIRST_LINE = len(_START % digest_of(b"").encode())
_Text = Annotated[str, Field(max_length=2000)]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Agreement = Literal["bits", "1e-6", "none"]
"""How what is derived again agrees with what was recorded: to the bit, nearly, or there is nothing
that a model has said."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer version may say more


class EntryDigest(_Frozen):
    """One entry's content."""

    sha256: Digest
    bytes: Annotated[int, Field(ge=0, le=MOST_BYTES)]


class Manifest(_Frozen):
    """What a pack says of itself."""

    schema_version: Annotated[Literal[1], Field(alias="schema")] = EVIDENCE_SCHEMA
    pipeline: _Text
    source: Source
    event_id: _Text | None
    state: Literal["decided", "dead"]
    attempt: Annotated[int, Field(ge=1)]
    """The one that ended so; more than 1 for an event that was redriven."""
    without_explanation: _Text | None
    """Why no explanation is in it; None where one is."""
    agreement: Agreement
    """How far the machine that has made the pack came to what was recorded."""
    environment: Environment
    """Of that machine."""
    entries: Annotated[dict[str, EntryDigest], Field(max_length=MOST_ENTRIES)]
    """All others, by name."""

    def to_bytes(self) -> bytes:
        """The entry `manifest.json`."""
        rest = self.model_dump_json(indent=2, by_alias=True).encode().removeprefix(b"{\n")
        return _START % digest_of(rest).encode() + rest

    @classmethod
    def of(cls, content: bytes, path: Path) -> Manifest:
        """The manifest of an entry. Raises PackDamaged."""
        rest = content[_FIRST_LINE:]
        if content[:_FIRST_LINE] != _START % digest_of(rest).encode():
            raise PackDamaged(path, f"{FIRST} was changed: its first line is not its digest")
        try:
            return cls.model_validate_json(b"{" + rest)
        except ValidationError as exc:
            error = exc.errors()[0]
            at = ".".join(map(str, error["loc"]))
            raise PackDamaged(path, f"{FIRST} is not readable: {at}: {error['msg']}") from exc
