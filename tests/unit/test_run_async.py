"""A command ends when its work is done, whatever its clients have left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from agents.commands import event_loop
from agents.commands.event_loop import run_async, until_signalled


async def stubborn() -> None:
    """Swallows its cancellation, as a Faust actor does while it waits for its broker."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


async def leaves_behind(result: int | Exception) -> int:
    global left  # noqa: PLW0603  # a task that nobody refers to is collected
    left = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    if isinstance(result, Exception):
        raise result
    return result


left: asyncio.Task[None] | None = None


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "LEFTOVERS_S", 0.05)


def test_a_task_that_swallows_its_cancellation_is_left_behind() -> None:
    assert run_async(leaves_behind(7)) == 7


def test_what_went_wrong_is_told_though_something_is_left_behind() -> None:
    with pytest.raises(ValueError, match="no weights"):
        run_async(leaves_behind(ValueError("no weights")))


def test_a_thread_that_hangs_is_left_behind() -> None:
    hanging, release, ended = (threading.Event() for _ in range(3))

    def hang() -> None:
        hanging.set()
        release.wait(60)  # whoever waits for this thread waits so long, and sees its end
        ended.set()

    async def main() -> None:
        waiting = asyncio.create_task(asyncio.to_thread(hang))
        while not hanging.is_set():  # noqa: ASYNC110  # it is set in another thread
            await asyncio.sleep(0.01)
        waiting.cancel()

    run_async(main())
    assert not ended.is_set()
    release.set()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_first_signal_stops_and_a_second_ends_the_process(number: int, code: int) -> None:
    codes = []

    async def main() -> None:
        stopping = asyncio.Event()
        exit_code = until_signalled(stopping)
        codes.append(exit_code())
        os.kill(os.getpid(), number)
        await stopping.wait()
        codes.append(exit_code())
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()

    with pytest.raises(SystemExit) as caught:
        run_async(main())
    assert caught.value.code == code
    assert codes == [0, code]
