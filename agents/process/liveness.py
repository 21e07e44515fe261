"""Whether components get on with what there is to do.

A component that has records to deal with, but has come no further for a stated time, is stuck: in
a call that never returns, or in a fault of a client library. Its process ends then, so that
whoever supervises it starts it again; what it had not written is read again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from faust.types import TP

from topics.errors import AnabranchError

log = logging.getLogger(__name__)

STUCK_EXIT_CODE = 70
"""Of a process that is stuck so that it cannot end in any other way (EX_SOFTWARE)."""

LOOK_S = 1.0
_GRACE_S = 10.0
"""For a stuck process to end by itself, and cleanly."""


class ComponentStuck(AnabranchError):
    """A component has records to deal with, and has come no further for too long."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(
            f"{'; '.join(reasons)}: the process ends, so that a new one starts from what is "
            "committed (the limit is ANABRANCH_STUCK_AFTER_S)"
        )


Positions = Mapping[TP, tuple[int, int]]
"""Partitions with something to do → the offset that is dealt with, and the one that is read."""


@dataclass(slots=True)
class Liveness:
    """Remembers since when each partition has been where it is. Times are monotonic seconds."""

    stuck_after_s: float
    clock: Callable[[], float] = time.monotonic
    ready: bool = False
    """Every component owns its partitions."""
    refused: str | None = None
    """Why this process goes no further, see `agents.process.refusal`."""
    _since: dict[tuple[str, TP], tuple[tuple[int, int], float]] = field(default_factory=dict)
    _looked_at: float | None = None

    def look(self, positions: Mapping[str, Positions]) -> None:
        """Note where every component is; to be called again and again."""
        now = self.clock()
        seen = {(name, tp): at for name, tps in positions.items() for tp, at in tps.items()}
        self._since = {
            key: (at, now if key not in self._since or self._since[key][0] != at
                  else self._since[key][1])
            for key, at in seen.items()
        }  # fmt: skip
        self._looked_at = now

    def stuck(self) -> list[str]:
        """What has not moved for too long; also when nobody has looked for that time."""
        now = self.clock()
        reasons = [
            f"{name} has had records to deal with on {tp.topic}[{tp.partition}]@{done} for "
            f"{now - since:.0f} s and came no further"
            for (name, tp), ((done, _), since) in sorted(self._since.items())
            if now - since > self.stuck_after_s
        ]
        if self._looked_at is not None and now - self._looked_at > self.stuck_after_s:
            reasons.append(f"the event loop has not run for {now - self._looked_at:.0f} s")
        return reasons


def guard(liveness: Liveness) -> threading.Thread:
    """A thread that ends the process when it is stuck and does not end by itself.

    So it is with an event loop that hangs, or a component's call that never returns.
    """

    def watch() -> None:
        stuck_since: float | None = None
        while True:
            time.sleep(LOOK_S)
            reasons = liveness.stuck()
            if not reasons:
                stuck_since = None
                continue
            stuck_since = stuck_since or liveness.clock()
            if liveness.clock() - stuck_since > _GRACE_S:
                log.critical("%s", ComponentStuck(reasons))
                logging.shutdown()
                os._exit(STUCK_EXIT_CODE)

    thread = threading.Thread(target=watch, name="liveness", daemon=True)
    thread.start()
    return thread
