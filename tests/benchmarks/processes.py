"""The processes that are measured: started in groups of their own, and ended for sure."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

STOP_TIMEOUT_S = 8.0
"""A peer has 5 s after SIGTERM; a shell around it a little longer."""


class PeerEnded(Exception):
    """A peer that should be running is not."""


@dataclass(frozen=True, slots=True)
class Command:
    """How a process is started."""

    words: Sequence[str]
    environment: Mapping[str, str]
    folder: Path


@dataclass(frozen=True, slots=True)
class Started:
    """Processes of one peer that run."""

    processes: Sequence[subprocess.Popen[bytes]]
    said: Sequence[Path]

    def check(self) -> None:
        """Raise PeerEnded with the last line that it said, if a process has ended."""
        for process, said in zip(self.processes, self.said, strict=True):
            if process.poll() is not None:
                raise PeerEnded(f"ended with {process.returncode}: {last_line(said)}")

    def cpu_s(self) -> float:
        """CPU time of all processes and of all that they have started, in seconds."""
        return sum(cpu_s(process.pid) for process in self.processes)

    def rss_mb(self) -> float:
        """Resident memory of all, in MB."""
        return sum(rss_mb(process.pid) for process in self.processes)


@contextmanager
def started(commands: Sequence[Command]) -> Iterator[Started]:
    """The commands, running; SIGTERM in the end, and SIGKILL for what is left of their groups."""
    with TemporaryDirectory(prefix="anabranch-bench-") as folder:
        said = [Path(folder) / f"{number}.txt" for number in range(len(commands))]
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for command, path in zip(commands, said, strict=True):
                processes.append(_start(command, path))
            yield Started(processes, said)
        finally:
            _end(processes)


def _start(command: Command, said: Path) -> subprocess.Popen[bytes]:
    with said.open("wb") as output:
        return subprocess.Popen(
            command.words, env={**os.environ, **command.environment}, cwd=command.folder,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_line(said: Path) -> str:
    """The last line of a process that is not empty."""
    lines = said.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else "it said nothing"


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that it has started and that still run; none when it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s(pid: int) -> float:
    """CPU time of a process tree in seconds, with that of children that have ended."""
    total = 0.0
    for process in tree(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def rss_mb(pid: int) -> float:
    """Resident memory of a process tree, in MB."""
    total = 0.0
    for process in tree(pid):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss / 1e6
    return total
