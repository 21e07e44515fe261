"""From dead letters to errands: which can go, with which value, and with what is known already."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agents import publishing
from agents.editing import EditFailed
from agents.following import follower
from agents.known_outputs import Outputs
from agents.letters import Identity, Letter, Letters, State
from topics.batches import Record, write_batches
from topics.decision import Source
from topics.errand_route import ErrandRoute
from topics.errors import WireError
from topics.events import EventDecoder
from topics.pipeline import Pipeline
from topics.redrive import About, End, Errand, about_of, encoded
from topics.settings import BrokerSettings
from topics.topology import WEIGH, Topology

Attempt = tuple[Identity, int]


@dataclass(slots=True)
class Selection:
    """What of the chosen dead letters can be redriven."""

    going: list[Letter] = field(default_factory=list)
    """With the values they go with."""
    edited: bool = False
    skipped: Counter[State] = field(default_factory=Counter)
    """Those that have no need to go, or may not, by state."""
    left: list[tuple[Letter, str]] = field(default_factory=list)
    """Those that would only die again, and why."""


def select(
    pipeline: Pipeline, letters: Letters, chosen: Sequence[Letter], *, attempts: int,
    again: bool, edit: Callable[[bytes | None], bytes] | None,
) -> Selection:  # fmt: skip
    """Sort *chosen*, edit those that can go, and validate what they go with."""
    found, events = Selection(edited=edit is not None), EventDecoder(pipeline.event)
    for letter in chosen:
        state = letters.state(letter, attempts)
        if state != "dead" and not (again and state == "waiting"):
            found.skipped[state] += 1
            continue
        try:
            going = letter if edit is None else replace(letter, value=edit(letter.value))
        except EditFailed as exc:
            found.left.append((letter, str(exc)))
            continue
        if failures := events.decode([going]).failures:
            found.left.append((letter, f"it is no valid event: {failures[0].reason}"))
        else:
            found.going.append(going)
    return found


def errands(
    pipeline: Pipeline, selection: Selection, letters: Letters, outputs: Outputs
) -> list[Errand]:
    """The errands of a selection, each addressed to the first stage that has to compute.

    *outputs* are those of first attempts; a later one's travelled with its errand.
    """
    topology, route = Topology.of(pipeline), ErrandRoute(pipeline)
    made = []
    for letter in selection.going:
        known = outputs.get(letter.source, {})
        if letter.attempt > 1:
            last = letters.last.get((letter.source, letter.attempt))
            known = dict(last.outputs) if last else {}
        source = Source(
            topic=topology.events, partition=letter.source.partition, offset=letter.source.offset
        )
        about = About(
            source=source, letter=letter.offset, attempt=letter.attempt + 1,
            published_ms=letter.published_ms, next=WEIGH,
        )  # fmt: skip
        kept = {} if selection.edited else route.kept(known)
        errand = Errand(about, letter.key, letter.value, letter.headers, kept)
        made.append(route.onward(errand))
    return made


async def send(settings: BrokerSettings, pipeline: Pipeline, made: Sequence[Errand]) -> None:
    """Write errands; returns when the broker has them."""
    topic, route = Topology.of(pipeline).redrive, ErrandRoute(pipeline)
    now_ms, records = int(time.time() * 1000), defaultdict[int, list[Record]](list)
    for errand in made:
        records[route.partition(errand)].append(encoded(errand, now_ms))
    async with publishing.producer(settings) as kafka:
        await asyncio.gather(
            *(write_batches(kafka, topic, at, batch) for at, batch in records.items())
        )


async def send_and_follow(
    settings: BrokerSettings,
    pipeline: Pipeline,
    made: Sequence[Errand],
    *,
    timeout_s: float,
    advance: Callable[[], None],
) -> Mapping[Attempt, End]:
    """Write errands and wait for their ends, *timeout_s* at most; those that came."""
    topology = Topology.of(pipeline)
    wanted = {(Identity(errand.partition, errand.offset), errand.about.attempt) for errand in made}
    ends: dict[Attempt, End] = {}
    topics = (topology.redrive,)
    async with follower(settings, topics, topology.partitions, from_start=False) as consumer:
        await send(settings, pipeline, made)
        deadline = time.monotonic() + timeout_s
        while len(ends) < len(wanted) and time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    found = _end(record.headers)
                    if found and found[0] in wanted and found[0] not in ends:
                        ends[found[0]] = found[1]
                        advance()
    return ends


def _end(headers: Sequence[tuple[str, bytes]]) -> tuple[Attempt, End] | None:
    """The end that a record of the redrive topic tells of."""
    try:
        about = about_of(headers)
    except WireError:
        return None
    source = Identity(about.source.partition, about.source.offset)
    return None if about.end is None else ((source, about.attempt), about.end)
