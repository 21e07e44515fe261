"""How the gateway refuses: problem details (RFC 9457), made of facts, without a stack.

Problem
├── InvalidEvents        400: an event is not what the pipeline file says; names its fields
├── InvalidParameter     400: a parameter of the query is wrong or unknown
├── NotFound             404
├── SeveralEvents        409: an event id that is not unique
├── TooLarge             413: bytes or events beyond the limit
├── UnsupportedContent   415: not JSON
├── NotDecided           422 or 504: some events are dead letters, or have no decision in time
├── TooSlow              408, 504: it took longer than it may
├── Overloaded           429: come again
└── Unavailable          503: pipeline or broker are down; come again
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from math import ceil
from typing import Any

import orjson

PROBLEM_TYPE = "application/problem+json"
GONE = 499
"""The caller has gone away; nobody reads this status but the metrics."""
_SHOWN = 20


class Problem(Exception):
    """An answer that is no success: its status, what is wrong, and facts by name."""

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **facts: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.facts = status, detail, facts
        self.headers = dict(headers or {})

    @property
    def content(self) -> dict[str, Any]:
        """The problem as the caller gets it."""
        title = "Caller Gone" if self.status == GONE else HTTPStatus(self.status).phrase
        return {"title": title, "status": self.status, "detail": self.detail, **self.facts}

    @property
    def body(self) -> bytes:
        """The same in JSON."""
        return orjson.dumps(self.content)

    @property
    def inference_error(self) -> tuple[int, bytes]:
        """Status and JSON as the Open Inference Protocol has them: it knows no 422."""
        return 400 if self.status == 422 else self.status, orjson.dumps({"error": self.detail})


class InvalidEvents(Problem):
    """Events that are not what the pipeline file says: *errors* are (event, field, reason)."""

    def __init__(self, errors: Sequence[tuple[int, str, str]], *, of_list: bool) -> None:
        number, field, reason = errors[0]
        place = f"event {number}: " if of_list else ""
        said = f"{place}{field}: {reason}" if field else f"{place}{reason}"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        listed = [{"event": n, "field": f, "reason": r} for n, f, r in errors[:_SHOWN]]
        super().__init__(400, said + more, field=field, event=number, errors=listed)


class InvalidParameter(Problem):
    """A parameter of the query that is wrong, or that there is not."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(400, f"{name}: {reason}", field=name)


class NotFound(Problem):
    """There is no such thing."""

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(404, detail, **facts)


class SeveralEvents(Problem):
    """An event id that is not unique: *sources* can be asked for."""

    def __init__(self, detail: str, sources: Sequence[str]) -> None:
        super().__init__(409, detail, sources=[*sources])


class TooLarge(Problem):
    """More than a request may have."""

    def __init__(self, detail: str) -> None:
        super().__init__(413, detail)


class UnsupportedContent(Problem):
    """Not JSON, or not as it was said to be."""

    def __init__(self, detail: str) -> None:
        super().__init__(415, detail, headers={"Accept": "application/json"})


class NotDecided(Problem):
    """Some events have no decision: *results* are all events' answers, in order."""


class TooSlow(Problem):
    """It took longer than it may."""


class Overloaded(Problem):
    """More than can be dealt with now."""

    def __init__(self, detail: str, retry_after_s: float = 1.0) -> None:
        super().__init__(429, detail, headers=_retry_after(retry_after_s))


class Unavailable(Problem):
    """The pipeline cannot decide now, or the broker does not answer."""

    def __init__(self, detail: str, retry_after_s: float = 5.0, **facts: Any) -> None:
        super().__init__(503, detail, headers=_retry_after(retry_after_s), **facts)


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, ceil(seconds)))}
