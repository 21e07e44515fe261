"""Validating many events without holding up the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from topics.events import DecodedEvents, SourceDecoder, SourceRecord

_AT_ONCE = 256
_AT_A_STRETCH_S = 0.02
"""Then others have their turn. An invalid event takes ten times as long as a valid one: a fetch of
thousands of them would hold up every heartbeat of the process."""


async def decoded(decoder: SourceDecoder, records: Sequence[SourceRecord]) -> DecodedEvents:
    """What `decoder.decode` makes of *records*; other tasks go on in between where it is long."""
    if len(records) <= _AT_ONCE:
        return decoder.decode(records)
    parts: list[DecodedEvents] = []
    began = time.perf_counter()
    for start in range(0, len(records), _AT_ONCE):
        if time.perf_counter() - began > _AT_A_STRETCH_S:
            await asyncio.sleep(0)
            began = time.perf_counter()
        parts.append(decoder.decode(records[start : start + _AT_ONCE]))
    return DecodedEvents.concat(parts)
