"""What a redrive's sender does where a broker does not answer."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from aiokafka.errors import RequestTimedOutError

from agents.redrive import sender
from agents.redrive.live_pace import LivePace
from agents.redrive.sender import RedriveProgress


class Tail:
    """A tail that nothing is read from."""

    async def start(self) -> None:
        """Nothing to connect to."""

    async def stop(self) -> None:
        """Nothing to disconnect from."""


@pytest.mark.parametrize(
    ("answers", "rate"),
    [
        ([[], []], 5000),  # measured: no live events flow
        ([[], [], [50.0], [50.0], [50.0], None, None], 200),
        ([[], [], [50.0], [50.0], [50.0], []], 5000),
        ([None, None], 5000),
    ],
)
async def test_the_rate_stays_as_it_is_while_live_events_cannot_be_looked_at(
    monkeypatch: pytest.MonkeyPatch, answers: list[list[float] | None], rate: float
) -> None:
    now, left, over = 0.0, list(answers), asyncio.Event()

    class Looks:
        def __init__(self, *_: object) -> None:
            """Answers are there already."""

        async def look(self) -> list[float]:
            nonlocal now
            now += 1.0
            if not left:
                over.set()
                await asyncio.Event().wait()
            if (answer := left.pop(0)) is None:
                raise RequestTimedOutError
            return answer

    monkeypatch.setattr(sender, "TailReader", lambda _: Tail())
    monkeypatch.setattr(sender, "LiveLatency", Looks)
    monkeypatch.setattr(sender, "LOOK_S", 0)
    pace = LivePace(5000, 0.1, lambda: now)
    nothing = cast("Any", None)
    looking = asyncio.create_task(sender._look(nothing, nothing, pace, RedriveProgress()))
    await over.wait()
    looking.cancel()
    assert pace.rate == rate
