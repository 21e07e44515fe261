"""One question: events are published, and their decisions waited for until the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from agents.gateway.broker_session import BrokerSession
from agents.gateway.event_publisher import Publication
from agents.gateway.event_reader import Event
from agents.gateway.limits import Limits
from agents.gateway.problem import NotDecided, Overloaded, TooLarge, Unavailable
from topics.errors import AnabranchError
from topics.pipeline import Topology
from topics.records import source_id


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an event has come to within its deadline: its decision, or what there is instead."""

    source: str | None
    """Its coordinates; None where the broker has not confirmed it."""
    decision: bytes | None
    """The decision record, JSON."""
    problem: dict[str, Any] | None = None
    """Why there is none."""


class Predictions:
    """Asks a pipeline, for many callers at once."""

    def __init__(self, session: BrokerSession, topology: Topology, limits: Limits) -> None:
        self._session, self._topology, self._limits = session, topology, limits
        self.in_flight = 0
        """Events whose callers wait."""

    async def decide(self, events: Sequence[Event], deadline_s: float) -> list[Outcome]:
        """What each of *events* has come to when all have ended, or at the deadline.

        Raises Overloaded and Unavailable before anything is published.
        """
        self.check_room(events)
        publications = self._session.publisher().submit(events)
        return await self.answered(publications, deadline_s)

    async def publish(self, events: Sequence[Event], deadline_s: float) -> list[str]:
        """Publish *events*, and wait for no decision: their coordinates, once the broker has them.

        Raises Overloaded, TooLarge and Unavailable; some may be published then.
        """
        self.check_room(events)
        publications = self._session.publisher().submit(events)
        self.in_flight += len(events)
        try:
            async with asyncio.timeout(deadline_s):
                for publication in publications:
                    await publication.placed
        except MessageSizeTooLargeError as exc:
            raise TooLarge("the broker takes no event as large as this one") from exc
        except (TimeoutError, KafkaError, AnabranchError) as exc:
            raise Unavailable(
                f"the broker has not confirmed the events within {deadline_s:g} s: some may be "
                "published all the same"
            ) from exc
        finally:
            self.in_flight -= len(events)
            for publication in publications:
                publication.give_up()
        return [
            source_id(self._topology.events, each.event.partition, each.offset)
            for each in publications
            if each.offset is not None
        ]

    def check_room(self, events: Sequence[Event]) -> None:
        """Raise Overloaded where there is no room for *events*."""
        if self.in_flight + len(events) > self._limits.in_flight:
            raise Overloaded(
                f"{self.in_flight:,} events wait for their decisions, and no more than "
                f"{self._limits.in_flight:,} may: come again"
            )

    async def answered(
        self, publications: Sequence[Publication], deadline_s: float
    ) -> list[Outcome]:
        """What *publications* have come to when all have ended, or at the deadline."""
        self.in_flight += len(publications)
        error: Exception | None = None
        try:
            async with asyncio.timeout(deadline_s):
                for publication in publications:
                    placed = publication.placed
                    await (asyncio.shield(placed) if publication.is_leased else placed)
                for publication in publications:
                    if publication.answer is not None:
                        await publication.answer
        except TimeoutError:
            pass
        except (KafkaError, AnabranchError) as exc:
            error = exc
        finally:
            self.in_flight -= len(publications)
            for publication in publications:
                publication.give_up()
        if isinstance(error, MessageSizeTooLargeError):
            raise TooLarge("the broker takes no event as large as this one (max.message.bytes)")
        return [self._outcome(publication, deadline_s, error) for publication in publications]

    def _outcome(
        self, publication: Publication, deadline_s: float, error: Exception | None
    ) -> Outcome:
        event = publication.event
        facts: dict[str, Any] = {"event_id": event.event_id}
        if publication.offset is None:
            detail = "the event was not published"
            if publication.written_at is not None:
                detail = (
                    f"the broker has not confirmed the event within {deadline_s:g} s: it may be "
                    "published all the same, and then it will be decided"
                )
            detail += f" ({error})" if error is not None else ""
            return Outcome(None, None, {"status": 503, "detail": detail, **facts})
        source = source_id(self._topology.events, event.partition, publication.offset)
        facts["source"] = source
        answer = publication.answered
        if answer is None:
            stage = self._session.watch.waits_for(event.partition)
            detail = (
                f"{source} has no decision within {deadline_s:g} s; it waits for {stage}; "
                f"GET /decisions?source={source} gives the decision once there is one"
            )
            if error is not None:
                detail = f"{source} is published, but {error}; ask GET /decisions?source={source}"
            status = 504 if error is None else 503
            problem = {"status": status, "detail": detail, "waits_for": stage, **facts}
            return Outcome(source, None, problem)
        if answer.decision is None:
            problem = {
                "status": 422,
                "detail": f"{source} is a dead letter: {answer.stage}: {answer.error}: "
                f"{answer.reason}",
                "stage": answer.stage, "error": answer.error, "reason": answer.reason, **facts,
            }  # fmt: skip
            return Outcome(source, None, problem)
        return Outcome(source, answer.decision)


def body_of(outcomes: Sequence[Outcome], *, is_list: bool) -> bytes:
    """The answer to a question whose events all have a decision: the records as they stand.

    Raises NotDecided where some have none, or Unavailable where some may not be published.
    """
    problems = [outcome.problem for outcome in outcomes if outcome.problem is not None]
    if not problems:
        records = [outcome.decision or b"" for outcome in outcomes]
        return b"[" + b",".join(records) + b"]" if is_list else records[0]
    worst = max(problems, key=lambda problem: _SEVERITY[problem["status"]])
    status, detail = worst["status"], worst["detail"]
    facts = {name: value for name, value in worst.items() if name not in ("status", "detail")}
    if is_list:
        facts["results"] = [
            orjson.Fragment(outcome.decision) if outcome.decision is not None else outcome.problem
            for outcome in outcomes
        ]
        detail = f"{len(problems)} of {len(outcomes)} events have no decision: {detail}"
    if status == 503:
        raise Unavailable(detail, **facts)
    raise NotDecided(status, detail, **facts)


_SEVERITY = {422: 0, 504: 1, 503: 2}
