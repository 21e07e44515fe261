"""What one caller may take of the gateway, and all of them together."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Room:
    """So many bytes for the bodies of all requests that are being read."""

    most: int
    taken: int = 0

    def take(self, size: int, held: int) -> bool:
        """Whether there is room for *size* more of a request that has *held*: for one always."""
        if self.taken + size > self.most and self.taken > held:
            return False
        self.taken += size
        return True


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond these a request is refused, never dropped."""

    body_bytes: int = 4 * 2**20
    """Of a request."""
    room: Room = field(default_factory=lambda: Room(128 * 2**20), compare=False)
    """Of all requests' bodies together."""
    events: int = 1000
    """Of a request."""
    in_flight: int = 5000
    """Events of all requests that have no answer yet."""
    deadline_s: float = 5.0
    """So long a request waits for decisions where it does not say itself."""
    longest_deadline_s: float = 60.0
    """No request may wait longer."""
    body_within_s: float = 10.0
    """A request is to be here whole by then."""
    lookups: int = 4
    """Looked for and explained at the same time; others are told to come again."""
    lookup_within_s: float = 30.0
    """Looking for an id reads topics through: so long, and no longer."""
    streams: int = 256
    """Open at the same time."""
    stream_bytes: int = 4 * 2**20
    """Of events that wait for one caller of the stream; with more it is sent away."""
