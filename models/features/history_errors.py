"""What can be wrong with entries that are given to a history, or with a piece of a snapshot.

AnabranchError
└── HistoryError           also a ValueError
    ├── WrongEntries       arrays that do not fit each other, or values out of range
    └── MalformedChunk     bytes that are no piece of a snapshot of such a history
"""

from __future__ import annotations

from topics.errors import AnabranchError


class HistoryError(AnabranchError, ValueError):
    """A history cannot take what it is given; it is unchanged."""


class WrongEntries(HistoryError):
    """Entries whose arrays do not fit each other, or whose values are out of range."""

    def __init__(self, what: str, wanted: str, found: str) -> None:
        super().__init__(f"entries of a history: {what} must be {wanted}, not {found}")


class MalformedChunk(HistoryError):
    """Bytes that are no piece of a snapshot of such a history."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"not a piece of this history's snapshot: {reason}; "
            "leave the snapshot out and read the events again"
        )
