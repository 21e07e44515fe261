"""Requests with an Idempotency-Key: published once, whoever is asked, and however often.

Before a gateway publishes it claims the key on `<pipeline>.requests` and reads back what stands
before its claim (`request_ledger` says who owns it then). The owner publishes, each event with a
header that names the request, and says where the events stand; everybody else waits for that, and
then for the decisions. Where an owner has ended, the next one looks first for what it has
published: by that header, on the events topic, from the first claim on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from uuid import uuid4

from aiokafka.errors import KafkaError

from agents.gateway.broker_session import BrokerSession
from agents.gateway.event_publisher import Publication
from agents.gateway.event_reader import Event
from agents.gateway.keyed.request_ledger import LEASE_MS, Place, Request
from agents.gateway.keyed.request_log import RequestLog
from agents.gateway.lookup import Lookup
from agents.gateway.predictions import Outcome, Predictions
from agents.gateway.problem import InvalidParameter, Overloaded, Problem, TooSlow, Unavailable
from topics.errors import AnabranchError
from topics.records import RequestRecord

log = logging.getLogger(__name__)

_LONGEST_KEY = 255
_SLACK_MS = 5_000
"""Clocks of gateways and brokers may differ by so much."""
_AGAIN_S = 0.2
_SAID_WITHIN_S = 60.0


@dataclass(slots=True)
class _Asked:
    """A request with a key."""

    requests: RequestLog
    digest: bytes
    events: Sequence[Event]
    content: str = ""

    def __post_init__(self) -> None:
        self.content = content_digest(self.events)

    @property
    def known(self) -> Request | None:
        """What the log says of the key now."""
        return self.requests.ledger.request(self.digest)


class KeyedRequests:
    """Asks a pipeline once for each key."""

    def __init__(
        self, session: BrokerSession, predictions: Predictions, lookup: Lookup,
        observe: Callable[[str], None],
    ) -> None:  # fmt: skip
        """*observe* counts requests by what they were: see `GatewayMetrics.observe_keyed`."""
        self._session, self._predictions, self._lookup = session, predictions, lookup
        self._observe = observe
        self._publishing = set[asyncio.Task[None]]()

    async def decide(self, key: str, events: Sequence[Event], deadline_s: float) -> list[Outcome]:
        """Like `Predictions.decide`, for the first request with *key* and all that follow.

        Raises Problem also where the key stands for other events.
        """
        self._predictions.check_room(events)
        until = time.monotonic() + deadline_s
        asked = _Asked(self._session.request_log(), key_digest(key), events)
        try:
            publications = await self._placed(asked, until)
        except (KafkaError, AnabranchError) as exc:
            raise Unavailable(f"{exc}; send it again, with the same key", 1) from exc
        return await self._predictions.answered(publications, until - time.monotonic())

    async def _placed(self, asked: _Asked, until: float) -> list[Publication]:
        """The events where they stand, published by us or by somebody else."""
        requests = asked.requests
        while (left_s := until - time.monotonic()) > 0:
            request = asked.known
            if request is not None and request.content != asked.content:
                raise Problem(
                    422, "Idempotency-Key: the key stands for a request with other events",
                    field="Idempotency-Key",
                )  # fmt: skip
            if request is not None and request.places is not None:
                self._observe("repeated")
                return self._elsewhere(asked.events, request.places)
            if request is None or _age_ms(request) > LEASE_MS:
                publications = await self._claimed(asked, left_s)
                if publications is not None:
                    return publications
                await requests.moved(min(left_s, _AGAIN_S))
                continue
            await requests.moved(min(left_s, max(0.0, LEASE_MS - _age_ms(request)) / 1000 + 0.01))
        raise TooSlow(
            504, "another request with this key has not published its events yet: send it again "
            "with the same key",
        )  # fmt: skip

    async def _claimed(self, asked: _Asked, left_s: float) -> list[Publication] | None:
        """Claim the key; the events being published, or None where the key is somebody else's."""
        publisher, requests, digest = self._session.publisher(), asked.requests, asked.digest
        if requests.ledger.is_full:
            raise Overloaded("more keys than can be remembered: come again, or send no key", 60)
        before, known = asked.known, dict[int, Place]()
        takeovers = 0 if before is None else before.takeovers + 1
        if before is not None:  # its gateway publishes no more
            known = await self._lookup.published(
                digest, {event.partition for event in asked.events}, before.first_ms - _SLACK_MS
            )
        claim, began = uuid4().hex, time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                said = RequestRecord(kind="claim", claim=claim, content=asked.content)
                await requests.append(digest, said)
        except TimeoutError:
            return None
        request = asked.known
        if request is None or (request.owner, request.takeovers) != (claim, takeovers):
            return None
        self._observe("taken_over" if takeovers else "new")
        marked = [
            replace(event, request=digest + b"/%d" % number)
            for number, event in enumerate(asked.events)
        ]
        fresh = publisher.submit(
            [e for n, e in enumerate(marked) if n not in known], lease_until=began + LEASE_MS / 2000
        )
        left = iter(fresh)
        publications = [
            self._waiting(event, known[number]) if number in known else next(left)
            for number, event in enumerate(marked)
        ]
        # Not the caller's task: who goes away must not keep it from being said.
        task = asyncio.create_task(self._say(asked, claim, publications))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)
        return publications

    async def _say(self, asked: _Asked, claim: str, publications: Sequence[Publication]) -> None:
        """Say where the events stand, once all are published."""
        await asyncio.gather(*(each.placed for each in publications), return_exceptions=True)
        places = tuple(
            (each.event.partition, each.offset) for each in publications if each.offset is not None
        )
        if len(places) < len(publications):
            return  # who comes next publishes what is missing
        try:
            async with asyncio.timeout(_SAID_WITHIN_S):
                said = RequestRecord(kind="placement", claim=claim, places=places)
                await asked.requests.append(asked.digest, said)
        except (KafkaError, AnabranchError, TimeoutError) as exc:
            log.warning("where a request's events stand is not said: %s", exc)

    def _elsewhere(self, events: Sequence[Event], places: Sequence[Place]) -> list[Publication]:
        return [self._waiting(event, place) for event, place in zip(events, places, strict=True)]

    def _waiting(self, event: Event, place: Place) -> Publication:
        """An event that somebody has published at *place*: its answer may be long there."""
        placed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        placed.set_result(None)
        publication = Publication(event, placed, place[1])
        publication.answer = self._session.answers.expect(place)
        task = asyncio.create_task(self._look_back(publication, place))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)
        return publication

    async def _look_back(self, publication: Publication, place: Place) -> None:
        """What has been decided before we waited for it."""
        try:
            answer = await self._lookup.ended(place)
        except (Problem, AnabranchError) as exc:
            log.warning("partition %d, offset %d: %s", *place, exc)
            return
        future = publication.answer
        if answer is not None and future is not None and not future.done():
            future.set_result(answer)


def key_digest(key: str) -> bytes:
    """What a caller's key is called on the topics. Raises InvalidParameter for none."""
    if not 1 <= len(key) <= _LONGEST_KEY or not key.isprintable():
        raise InvalidParameter(
            "Idempotency-Key", f"1 to {_LONGEST_KEY} printable characters, such as a UUID"
        )
    return sha256(key.encode()).hexdigest()[:32].encode()


def content_digest(events: Sequence[Event]) -> str:
    """What a key stands for: the events, to the byte."""
    digest = sha256()
    for event in events:
        digest.update(len(event.value).to_bytes(8, "big") + event.value)
    return digest.hexdigest()


def _age_ms(request: Request) -> float:
    return time.time_ns() / 1e6 - request.claimed_ms
