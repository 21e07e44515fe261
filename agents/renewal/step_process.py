"""A step's computing in a process of its own, which ends when the step does.

A fit cannot be interrupted from within, and one in a thread would go on after its renewal was
stopped, or its trainer deposed. So it has a process, with those that it starts in one group: that
is ended when the step is given up, and ends by itself once the trainer is gone, however it went.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from agents.renewal.errors import RenewalError
from topics.errors import AnabranchError

Result = TypeVar("Result")
_LOOK_S = 0.1
_GRACE_S = 5.0
"""So long a group has to end by itself, its temporary files with it."""


class StepFailed(RenewalError):
    """What a step's process has raised, in its words."""


class StepEnded(RenewalError):
    """A step's process has ended without a result."""

    def __init__(self, step: str, code: int | None) -> None:
        how = f"by signal {-code}" if code is not None and code < 0 else f"with {code}"
        super().__init__(
            f"the process of {step} has ended {how}; mostly the machine has too little memory: "
            "train on fewer days (renew: over), or on a larger machine"
        )


async def in_process(function: Callable[..., Result], *arguments: object) -> Result:
    """What *function* returns, which is called in a process of its own; all can be pickled.

    Cancelled, it ends that process first. Raises StepFailed with what it raises of ours, and
    StepEnded.
    """
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe(duplex=False)
    process = spawning.Process(target=_run, args=(theirs, function, arguments))
    await asyncio.to_thread(process.start)
    theirs.close()
    try:
        while not await asyncio.to_thread(_has_ended, ours, process):
            pass
        try:
            # It may be large, but nobody else waits for it.
            answer: Any = ours.recv() if ours.poll() else (None, None)
        except EOFError:
            answer = (None, None)
        is_fine, result = answer
        if is_fine is None:
            await asyncio.to_thread(process.join, _GRACE_S)
            raise StepEnded(function.__name__.strip("_"), process.exitcode)
        if not is_fine:
            raise StepFailed(str(result))
        value: Result = result
        return value
    finally:
        ours.close()
        await _ended(process)


def _has_ended(ours: Connection, process: BaseProcess) -> bool:
    """Whether there is an answer, or nobody to give one; waits for it a moment."""
    return bool(wait([ours, process.sentinel], _LOOK_S))


async def _ended(process: BaseProcess) -> None:
    """Have the process and its group gone, by force after a moment."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid or 0, number)
        with suppress(ProcessLookupError):  # it may not lead a group yet
            if process.is_alive():
                os.kill(process.pid or 0, number)
        await asyncio.to_thread(process.join, _GRACE_S)
        if not process.is_alive():
            break
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid or 0, signal.SIGKILL)  # what it has left behind
    process.join(0)


def _run(to: Connection, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    """What the process does."""
    os.setpgrp()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's: the trainer says what follows
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer: tuple[bool, object] = (True, function(*arguments))
    except (AnabranchError, OSError, ValueError) as exc:
        answer = (False, exc)
    if not answer[0]:
        answer = (False, str(answer[1]) or type(answer[1]).__name__)
    to.send(answer)
    to.close()


def _end_with_parent() -> None:
    """A trainer that was killed says no more; nobody would take what is computed here."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(os.getpgrp(), signal.SIGKILL)
