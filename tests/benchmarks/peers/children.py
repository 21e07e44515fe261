"""Several processes that stand and fall together, for peers that use more than one core."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Any, Never

_SPAWN = multiprocessing.get_context("spawn")
_PATIENCE_S = 4.0

Work = tuple[Callable[..., object], tuple[Any, ...]]
"""A function of a module, and its arguments."""


def together(works: Sequence[Work]) -> Never:
    """Run each of *works* in a process of its own until SIGTERM.

    Exits with 0 then, and with 1 when one of them ended before: the others are ended too.
    """
    children = [_SPAWN.Process(target=_run, args=work) for work in works]
    told = threading.Event()

    def stop(*_: object) -> None:
        told.set()
        _terminate(children)

    signal.signal(signal.SIGTERM, stop)
    for child in children:
        child.start()
    wait([child.sentinel for child in children])
    early = [child.exitcode for child in children if not child.is_alive()]
    if not told.is_set():
        sys.stderr.write(f"a process of this peer ended with {early}\n")
    _terminate(children)
    for child in children:
        child.join(_PATIENCE_S / len(children))
        child.kill()
    sys.exit(0 if told.is_set() else 1)


def _terminate(children: Sequence[multiprocessing.process.BaseProcess]) -> None:
    for child in children:
        if child.pid is not None:
            child.terminate()


def _run(function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_follow_parent, daemon=True).start()
    function(*arguments)


def _follow_parent() -> None:
    """End this process when its parent is gone, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
