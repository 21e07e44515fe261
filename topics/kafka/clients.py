"""Ending Kafka clients: with a deadline, since one whose broker is gone waits for it for ever."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 3.0


class Client(Protocol):
    """A started aiokafka consumer or producer."""

    async def stop(self) -> None:
        """Send what is left, then disconnect."""


async def close(client: Client) -> None:
    """Stop *client*; after CLOSE_TIMEOUT_S it is left as it is."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await client.stop()
    except asyncio.CancelledError:
        # A fetch that waits to try again raises it out of aiokafka's stop: nobody has cancelled us.
        if (task := asyncio.current_task()) is not None and task.cancelling():
            raise
    except TimeoutError:
        log.warning("%s did not disconnect within %.0f s", type(client).__name__, CLOSE_TIMEOUT_S)
