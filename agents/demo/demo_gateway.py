"""The gateway beside a demo, in a process of its own, so that it shares no interpreter with it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from agents.process.child_process import child_environment, stop_child
from topics.settings import BrokerSettings

_UP_WITHIN_S = 30.0
_NEEDED = ("fastapi", "httptools", "jwt", "uvicorn")


class GatewayAddress(BaseModel):
    """What `anabranch gateway --json` says once it takes events."""

    model_config = ConfigDict(frozen=True)

    pipeline: str
    broker: str
    url: str


def gateway_is_installed() -> bool:
    """Whether all that a gateway needs is there."""
    return all(find_spec(name) is not None for name in _NEEDED)


@dataclass(frozen=True, slots=True)
class DemoGateway:
    """A gateway that starts, or runs."""

    process: asyncio.subprocess.Process

    async def url(self) -> str | None:
        """Where it is, once it takes events; None when it does not come up in time."""
        if self.process.stdout is None:
            return None
        try:
            async with asyncio.timeout(_UP_WITHIN_S):
                line = await self.process.stdout.readline()
            return GatewayAddress.model_validate_json(line).url
        except (TimeoutError, ValidationError):  # it has ended, and said on stderr why
            return None


@asynccontextmanager
async def gateway_beside(
    pipeline_file: Path, registry: Path | str, settings: BrokerSettings
) -> AsyncIterator[DemoGateway]:
    """A gateway on any free port of this machine, which ends with the block, or its parent."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "agents", "gateway", str(pipeline_file),
        "--port", "0", "--json", "--end-with-stdin",
        env={**os.environ, **child_environment(registry, settings)},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the parent, which tells the child
    )  # fmt: skip
    try:
        yield DemoGateway(process)
    finally:
        await stop_child(process)
