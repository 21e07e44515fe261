"""Turning a failed component into one clear error."""

from __future__ import annotations

from aiokafka.errors import KafkaError

from agents.runner import Running
from topics.errors import AnabranchError


class ComponentFailed(AnabranchError):
    """A component stopped; nothing that it had not written is committed."""

    def __init__(self, name: str, cause: BaseException) -> None:
        super().__init__(
            f"component {name} stopped: {type(cause).__name__}: {cause}; its offsets are not "
            "committed, so a restart continues with the same rows"
        )


async def raise_failure(running: Running | None) -> None:
    """Wait until a component fails, and raise that as ComponentFailed."""
    if running is None:
        return
    name, cause = await running.failed()
    raise ComponentFailed(name, cause) from (cause if not isinstance(cause, KafkaError) else None)
