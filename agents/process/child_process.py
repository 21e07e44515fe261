"""Components in a process of their own, told what to do by `anabranch run`.

What publishes and follows a stream then shares no interpreter with what it measures.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError

from agents.process.tasks import first_of
from agents.workers import StageStats
from topics.errors import AnabranchError
from topics.settings import BrokerSettings

_STOP_S = 15.0
_LONGEST_LINE = 2**24


class WorkersEnded(AnabranchError):
    """The process of the components ended by itself; it has said on stderr why."""

    def __init__(self, code: int) -> None:
        super().__init__(
            f"the process that runs the components ended with exit code {code}; what it said is "
            "above, and nothing that it had not written is committed"
        )


class RunStatus(BaseModel):
    """A line of `anabranch run --json`: the components that run, and what they have done."""

    model_config = ConfigDict(frozen=True)

    pipeline: str
    broker: str
    components: dict[str, StageStats]


@dataclass(slots=True)
class WorkerProcess:
    """A child process that runs components."""

    process: asyncio.subprocess.Process
    stages: dict[str, StageStats] = field(default_factory=dict)
    """What each component has done so far, as of at most a second ago."""
    _up: asyncio.Event = field(default_factory=asyncio.Event)

    def progress(self) -> tuple[tuple[int, int], ...]:
        """Of each component, the rows and batches that it has dealt with: equal, nothing moves."""
        return tuple((stage.rows, stage.batches) for stage in self.stages.values())

    def lags(self) -> Mapping[str, int]:
        """Components that have not read all that waits for them, and how many records that is."""
        return {name: stage.lag for name, stage in self.stages.items() if stage.lag}

    async def up(self) -> None:
        """Return when every component owns its partitions. Raises WorkersEnded."""
        await first_of(self._up.wait, self.ended)

    async def ended(self) -> NoReturn:
        """Wait until the process ends by itself. Raises WorkersEnded."""
        raise WorkersEnded(await self.process.wait())

    async def follow(self) -> None:
        """Read the process's status lines until it closes them.

        What else is printed there, by a component of the user's own, goes on to stderr.
        """
        if self.process.stdout is None:
            raise ValueError("the process was started without a pipe")
        async for line in self.process.stdout:
            try:
                self.stages = RunStatus.model_validate_json(line).components
            except ValidationError:
                sys.stderr.write(line.decode(errors="replace"))
            else:
                self._up.set()


@asynccontextmanager
async def worker_process(
    pipeline_file: Path, registry: Path | str, settings: BrokerSettings, *options: str
) -> AsyncIterator[WorkerProcess]:
    """All components of a pipeline in one child process; yields once they own their partitions.

    *options* are further ones of `anabranch run`. The child ends with its parent, however that
    ends: nobody reads its status lines any more.
    Raises WorkersEnded.
    """
    workers = WorkerProcess(
        await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "agents", "run", str(pipeline_file), "--json", *options,
            env={**os.environ, **child_environment(registry, settings)},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
            start_new_session=True,  # Ctrl-C is for the parent, which tells the child
        )
    )  # fmt: skip
    following = asyncio.create_task(workers.follow())
    try:
        await workers.up()
        yield workers
    finally:
        await stop_child(workers.process)
        following.cancel()


def child_environment(registry: Path | str, settings: BrokerSettings) -> Mapping[str, str]:
    """What a child process needs of the environment to do as its parent does."""
    values = {**settings.model_dump(exclude_none=True), "registry": registry}
    ours = {f"ANABRANCH_{name.upper()}": str(value) for name, value in values.items()}
    # The parent's own code, whatever else is called "agents" where it was started (hence -P).
    code = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    return {**ours, "PYTHONPATH": os.pathsep.join(filter(None, code))}


async def stop_child(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, so that what is done is committed; SIGKILL for a process that hangs."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
