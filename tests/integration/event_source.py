"""A reader of server-sent events as browsers have it, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import orjson

from tests.integration.gateways import RunningGateway
from tests.integration.harness import PATIENCE_S


class ServerEvent(NamedTuple):
    """One event, and what would be sent as Last-Event-ID after it."""

    name: str
    id: str
    data: Any


def events_of_lines(lines: Iterator[str]) -> Iterator[ServerEvent]:
    """Events as the HTML specification reads them off a stream's lines."""
    name, last_id, data = "", "", list[str]()
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "" if not line:
                if data:
                    yield ServerEvent(name or "message", last_id, orjson.loads("\n".join(data)))
                name, data = "", []
            case "event":
                name = value
            case "id":
                last_id = value
            case "data":
                data.append(value)


@contextmanager
def event_source(
    gateway: RunningGateway, query: str = "", last_id: str = "", **headers: str
) -> Iterator[Iterator[ServerEvent]]:
    """Events of GET /decisions/stream; the connection is open meanwhile."""
    sent = {**headers, **({"last-event-id": last_id} if last_id else {})}
    with httpx.stream(
        "GET", f"{gateway.url}/decisions/stream{query}", headers=sent, timeout=PATIENCE_S
    ) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines).startswith("retry:")
        yield events_of_lines(lines)
