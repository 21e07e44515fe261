"""Who owns a request with a key, by the order of the log alone: every gateway finds the same.

The first claim of a key owns it. While it has no placement, a later claim of the same content takes
it over, if it stands more than a lease behind the one that owns it: that gateway has ended. The
first placement is where the events stand, for good. Times are those of the records.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from topics.records import RequestRecord

LEASE_MS = 4000
"""So long nobody else publishes; the owner itself begins to within half of it, or not at all."""
KEPT_MS = 3600_000
"""So long a key stands for its first request."""
_MOST_KEYS = 500_000

Place = tuple[int, int]


@dataclass(slots=True)
class Request:
    """What is known of a key."""

    content: str
    first_ms: int
    owner: str
    claimed_ms: int
    takeovers: int = 0
    places: tuple[Place, ...] | None = None
    """None until its events are published and that is on the log."""


class RequestLedger:
    """The requests of the last KEPT_MS, as the log has them.

    >>> ledger = RequestLedger()
    >>> ledger.take(b"k", 0, b'{"kind": "claim", "claim": "a", "content": "c"}')
    >>> ledger.take(b"k", 1, b'{"kind": "claim", "claim": "b", "content": "c"}')
    >>> ledger.request(b"k").owner
    'a'
    """

    def __init__(self, most_keys: int = _MOST_KEYS) -> None:
        self._requests: dict[bytes, Request] = {}
        """In the order of their first claims."""
        self._most_keys = most_keys

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def is_full(self) -> bool:
        """More keys than memory is for: no new one may be claimed."""
        return len(self._requests) >= self._most_keys

    def request(self, key: bytes) -> Request | None:
        """What is known of a key."""
        return self._requests.get(key)

    def take(self, key: bytes | None, at_ms: int, value: bytes | None) -> None:
        """The next record of a partition; what is none of ours is passed over."""
        try:
            record = RequestRecord.model_validate_json(value or b"")
        except ValidationError:
            return
        if key is None:
            return
        request = self._requests.get(key)
        if request is not None and at_ms - request.first_ms > KEPT_MS:
            del self._requests[key]
            request = None
        if record.kind == "placement":
            if request is not None and request.places is None:
                request.places = record.places
        elif request is None:
            self._requests[key] = Request(record.content, at_ms, record.claim, at_ms)
        elif (
            request.places is None
            and record.content == request.content
            and at_ms - request.claimed_ms > LEASE_MS
        ):
            request.owner, request.claimed_ms = record.claim, at_ms
            request.takeovers += 1

    def forget_before(self, at_ms: int) -> None:
        """Leave out what was claimed first before then."""
        old = []
        for key, request in self._requests.items():
            if request.first_ms >= at_ms:
                break
            old.append(key)
        for key in old:
            del self._requests[key]
