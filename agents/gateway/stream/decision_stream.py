"""The stream of decisions for one caller: from where it begins to the end of the log, and on.

Each decision is sent exactly once and in the order of its partition. The past is read first
(`past_decisions`), a turn at a time; close to the end the stream joins those that are live
(`live_decisions`) and reads what lies before that, so nothing is missed in between. When what is
live breaks off (the broker went away, or deleted what was not read yet), it begins again from where
it is. A caller that reads too slowly is told so and sent away: it comes again with the id of the
last event it was sent, and has lost nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiokafka.errors import KafkaError

from agents.gateway.stream.live_decisions import LiveDecisions
from agents.gateway.stream.past_decisions import PastDecisions, PastTurn
from agents.gateway.stream.stream_events import Block, greeting, heartbeat, shed_event
from agents.gateway.stream.stream_filter import StreamFilter
from agents.gateway.stream.stream_outbox import Outbox, TooFarBehind
from agents.gateway.stream.stream_position import Position
from agents.process.tasks import first_of
from topics.errors import AnabranchError

log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
_TURN_S = 5.0
"""So long one caller reads the past while others wait for their turn."""
_NEAR = 1000
"""Closer to the end than that many records, a stream goes live."""
_AGAIN_S, _LOOK_S = 1.0, 0.02

Send = Callable[[bytes], Awaitable[None]]


class DecisionStream:
    """For one caller."""

    def __init__(
        self, live: LiveDecisions, past: PastDecisions, wanted: StreamFilter,
        start: Position | None, since_ms: int, most_bytes: int, observe: Callable[[int], None],
    ) -> None:  # fmt: skip
        """*start* is where it begins; None: at what was written since *since_ms*.

        *observe* is told how many events were sent.
        """
        self._live, self._past, self._wanted = live, past, wanted
        self._start, self._since_ms, self._most_bytes = start, since_ms, most_bytes
        self._observe = observe
        self.shed_events = 0
        """That waited when the caller was sent away; 0 where it was not."""

    async def run(self, send: Send) -> None:
        """Send events for ever, or until the caller is too far behind."""
        outbox = Outbox(self._most_bytes, self._start)
        try:
            await first_of(lambda: self._send_all(outbox, send), lambda: self._feed(outbox))
        finally:
            self._live.leave(self._wanted, outbox)

    async def _send_all(self, outbox: Outbox, send: Send) -> None:
        sent = self._start
        await send(greeting(sent))
        while True:
            try:
                block = await outbox.take(HEARTBEAT_S)
            except TooFarBehind as exc:
                self.shed_events = exc.events
                await send(shed_event(sent, exc.events))
                return
            if block is None:
                sent = outbox.position
                await send(heartbeat(sent))
            else:
                await send(block.content)
                sent = block.position
                self._observe(block.events)

    async def _feed(self, outbox: Outbox) -> None:
        """Keep *outbox* filled, from its position on."""
        while True:
            await self._live.opened()
            try:
                is_live = self._is_at_end(outbox) and self._join(outbox)
                if not is_live:
                    async with self._past.turn(self._wanted, self._since_ms) as turn:
                        is_live = await self._read_past(outbox, turn)
            except (KafkaError, OSError, AnabranchError) as exc:
                log.warning("the past of a stream cannot be read: %s; trying again", exc)
                await asyncio.sleep(_AGAIN_S)
                continue
            await (outbox.interrupted() if is_live else outbox.emptied())

    async def _read_past(self, outbox: Outbox, turn: PastTurn) -> bool:
        """Have one turn; whether the stream is live then. Raises KafkaError."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _TURN_S
        await _pass_on(await turn.open(outbox.position), outbox, until)
        while loop.time() < until:
            at, end = outbox.position, self._live.position(self._wanted)
            if at is None or end is None:
                return False
            if at.is_ahead_of(end):  # another gateway, which was quicker, has sent that already
                await asyncio.sleep(_LOOK_S)
            elif at.behind(end) > _NEAR:
                await _pass_on(await turn.next(end), outbox, until)
            elif await self._read_last(outbox, turn, end, until):
                return True
        return False

    async def _read_last(self, outbox: Outbox, turn: PastTurn, end: Position, until: float) -> bool:
        """Go live at *end*, and read up to there; whether that was done by *until*."""
        loop, is_read = asyncio.get_running_loop(), False
        outbox.hold()
        self._live.join(self._wanted, outbox)
        try:
            while not is_read and loop.time() < until:
                block = await turn.next(end)
                is_read = block is None
                await _pass_on(block, outbox, until)
        finally:
            if not is_read:
                self._live.leave(self._wanted, outbox)
                outbox.interrupt()
            is_live = outbox.release()
        return is_live

    def _is_at_end(self, outbox: Outbox) -> bool:
        return outbox.position is not None and outbox.position == self._live.position(self._wanted)

    def _join(self, outbox: Outbox) -> bool:
        outbox.hold()
        self._live.join(self._wanted, outbox)
        return outbox.release()


async def _pass_on(block: Block | None, outbox: Outbox, until: float) -> None:
    """Put *block* into *outbox*, and wait until all in it is sent, but no longer than *until*."""
    if block is not None:
        outbox.put(block)
    with suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            await outbox.emptied()
