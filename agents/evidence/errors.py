"""Why there is no evidence pack, or none that can be read.

AnabranchError
├── EventInFlight     the event has not ended yet
├── EvidenceGone      something that a pack needs is gone by retention
├── CodeNotPacked     an explanation needs code of one's own, of which packs hold none
├── PackTooLarge      more than a pack can hold
├── PackExists        a file would be overwritten
├── PackUnreadable    the file cannot be read or written
└── PackDamaged       it is no pack, or was changed
"""

from __future__ import annotations

from pathlib import Path

from agents.explanations import named
from topics.errors import AnabranchError
from topics.records import Source


class EventInFlight(AnabranchError):
    """The event has not ended yet, as far as topics tell."""

    def __init__(self, place: Source, pipeline: str, waits_for: list[str]) -> None:
        waiting = f", and waits for {', '.join(waits_for)}" if waits_for else ""
        super().__init__(
            f"{named(place)} has neither a decision nor a dead letter{waiting}: it may still be in "
            f"flight (anabranch status {pipeline}), or how it ended is gone by retention"
        )


class EvidenceGone(AnabranchError):
    """Something that a pack needs is gone by retention."""

    def __init__(self, place: Source, what: str) -> None:
        super().__init__(
            f"{named(place)} cannot be proven any more: {what}; packs are made while topics hold "
            "the event (retention: of the pipeline file)"
        )


class CodeNotPacked(AnabranchError):
    """An explanation needs code of one's own, of which packs hold none."""

    def __init__(self, component: str) -> None:
        super().__init__(
            f"it calls component {component}, which is declared pure, and no pack holds code: "
            "anabranch explain has it"
        )


class PackTooLarge(AnabranchError):
    """More than a pack can hold."""

    def __init__(self, path: Path, most_bytes: int, most_entries: int) -> None:
        super().__init__(
            f"{path} is not written: a pack has {most_bytes:,} bytes and {most_entries:,} entries "
            "at most"
        )


class PackExists(AnabranchError):
    """A file would be overwritten, which may be evidence."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists: name another file, or overwrite it with --force")


class PackUnreadable(AnabranchError):
    """The file cannot be read or written."""

    def __init__(self, path: Path, cause: OSError) -> None:
        super().__init__(f"{path}: {cause.strerror or cause}")


class PackDamaged(AnabranchError):
    """It is no pack, or was changed."""

    def __init__(self, path: Path, what: str) -> None:
        self.what = what
        super().__init__(f"{path} is no whole evidence pack: {what}")
