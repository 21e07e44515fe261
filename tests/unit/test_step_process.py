"""A step's process gives its result, its error in words, or ends when it is given up."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from agents.renewal.step_process import StepEnded, StepFailed, in_process
from models.errors import NothingVaries

_PATIENCE_S = 60.0


def doubled(number: int) -> int:
    return 2 * number


def refused() -> None:
    raise NothingVaries(["amount"])


def ended() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def forever(told: Path) -> None:
    """Computes on, and so does a process that it has started."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    told.with_suffix(".part").write_text(f"{os.getpid()} {other.pid}")
    told.with_suffix(".part").rename(told)
    while True:
        sum(range(100_000))


def told_in(path: Path) -> list[int]:
    deadline = time.monotonic() + _PATIENCE_S
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [int(word) for word in path.read_text().split()]


def is_there(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while any(is_there(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(is_there(pid) for pid in pids)


async def test_its_result_comes_back() -> None:
    assert await in_process(doubled, 21) == 42


async def test_what_it_raises_is_said_in_its_words() -> None:
    with pytest.raises(StepFailed, match="amount"):
        await in_process(refused)


async def test_one_that_is_killed_is_an_error() -> None:
    with pytest.raises(StepEnded, match="signal 9"):
        await in_process(ended)


async def test_it_has_ended_with_all_that_it_started_once_it_is_given_up(tmp_path: Path) -> None:
    task = asyncio.ensure_future(in_process(forever, tmp_path / "told"))
    pids = await asyncio.to_thread(told_in, tmp_path / "told")
    assert all(is_there(pid) for pid in pids)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(gone, pids)


async def test_it_ends_when_its_trainer_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, pathlib, tests.unit.test_step_process as t\n"
        "from agents.renewal.step_process import in_process\n"
        f"asyncio.run(in_process(t.forever, pathlib.Path({str(tmp_path / 'told')!r})))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as trainer:
        pids = await asyncio.to_thread(told_in, tmp_path / "told")
        trainer.kill()
    assert await asyncio.to_thread(gone, pids)
