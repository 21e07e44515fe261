"""What stands in a request: its body within its limits, its parameters by name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from datetime import datetime

from starlette.requests import ClientDisconnect, Request

from agents.gateway.limits import Limits
from agents.gateway.problem import (
    GONE,
    InvalidParameter,
    Overloaded,
    Problem,
    TooLarge,
    UnsupportedContent,
)
from topics.pipeline import instant

_DRAINED = 16
"""So many times what a body may have is read and thrown away, so that the answer is read."""
_JSON = "application/json"
_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")


def check_json(request: Request) -> None:
    """Raise UnsupportedContent for anything but JSON in UTF-8, as it is."""
    given = request.headers.get("content-type", "")
    kind, *parameters = (part.strip().lower() for part in given.split(";"))
    if kind != _JSON and not (kind.startswith("application/") and kind.endswith("+json")):
        said = f"the body is {given[:80]!r}" if given else "the request has no content-type"
        raise UnsupportedContent(f"{said}: send JSON, with the header content-type: {_JSON}")
    if any(p.startswith("charset=") and p.strip('"') not in _UTF8 for p in parameters):
        raise UnsupportedContent("JSON is UTF-8: send no other charset")
    check_encoding(request)


def check_encoding(request: Request) -> None:
    """Raise UnsupportedContent for a body that is packed."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedContent("send the body without content-encoding")


_UTF8 = ("charset=utf-8", 'charset="utf-8', "charset=us-ascii")


async def body_of_request(request: Request, limits: Limits) -> bytes:
    """All of the body. Raises TooLarge, Overloaded, and Problem when it does not come in time."""
    parts, size, held = list[bytes](), 0, 0
    try:
        async with asyncio.timeout(limits.body_within_s):
            async for part in request.stream():
                size += len(part)
                if size <= limits.body_bytes:
                    if not limits.room.take(len(part), held):
                        overloaded = Overloaded("the bodies of too many requests are being read")
                        overloaded.headers["Connection"] = "close"
                        raise overloaded
                    held += len(part)
                    parts.append(part)
                elif size > _DRAINED * limits.body_bytes:
                    break
    except TimeoutError as exc:
        raise Problem(
            408, f"the body did not come within {limits.body_within_s:g} s",
            headers={"Connection": "close"},
        ) from exc  # fmt: skip
    except ClientDisconnect as exc:
        raise Problem(GONE, "the caller has gone away") from exc
    finally:
        limits.room.taken -= held
    if size > limits.body_bytes:
        problem = TooLarge(
            f"the body has more than {limits.body_bytes:,} bytes: send fewer events in a request"
        )
        problem.headers["Connection"] = "close"
        raise problem
    return parts[0] if len(parts) == 1 else b"".join(parts)


class Parameters:
    """The parameters of a query, each by one name and given once. Raises InvalidParameter."""

    def __init__(self, request: Request, known: Collection[str]) -> None:
        self._values = dict[str, str]()
        if not request.url.query:
            return
        for name, value in request.query_params.multi_items():
            if name not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise InvalidParameter(name[:80], f"there is no such parameter; there are {listed}")
            if name in self._values:
                raise InvalidParameter(name, "it is given twice")
            self._values[name] = value

    def text(self, name: str) -> str | None:
        """As it was given."""
        return self._values.get(name)

    def flag(self, name: str) -> bool:
        """True or false; false where it is not given."""
        value = self._values.get(name, "false").lower()
        if value not in ("true", "false", "1", "0"):
            raise InvalidParameter(name, "true or false")
        return value in ("true", "1")

    def seconds(self, name: str, default_s: float, most_s: float) -> float:
        """Milliseconds, as seconds."""
        value = self._values.get(name)
        if value is None:
            return default_s
        number = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else 0
        if not 1 <= number <= most_s * 1000:
            raise InvalidParameter(name, f"a whole number from 1 to {most_s * 1000:.0f}")
        return number / 1000

    def instant(self, name: str) -> datetime | None:
        """A time."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            if not _DATE.match(value):  # a number would be one, too
                raise ValueError(value)
            return instant(value)
        except ValueError as exc:
            raise InvalidParameter(name, "no time, such as 2026-01-31T12:00:00Z") from exc
