"""The explainer beside workers of one process: a child of low priority, started again if it ends.

Explaining computes for milliseconds a decision. In the event loop of workers that would be theirs.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import NoReturn

from agents.process.active_pipeline import ActivePipeline
from agents.process.child_process import WorkersEnded, worker_process
from agents.workers import StageMetrics
from topics.pipeline import EXPLAINER
from topics.settings import BrokerSettings

log = logging.getLogger(__name__)

NICENESS = 10
"""A worker that wants the processor gets nine times as much of it (Linux: 1024 to 110)."""
_AGAIN_S, _AT_MOST_S = 2.0, 60.0
_LOOK_S = 1.0


def give_way(active: ActivePipeline) -> None:
    """Lower the priority of a process that explains only: what decides goes first."""
    if active.workers().keys() == {EXPLAINER}:
        os.nice(NICENESS)


async def keep_explaining(
    pipeline_file: Path, registry: Path | str, settings: BrokerSettings, metrics: StageMetrics
) -> NoReturn:
    """Run the explainer in a child process for ever, and observe what it says it has done.

    When it ends that is logged, and after a while it is started again: nothing waits for it.
    """
    pause_s = _AGAIN_S
    while True:
        try:
            async with worker_process(
                pipeline_file, registry, settings, "--component", EXPLAINER
            ) as child:
                metrics.begin_following()
                while child.process.returncode is None:
                    metrics.follow(child.stages[EXPLAINER])
                    await asyncio.sleep(_LOOK_S)
                pause_s = _AGAIN_S
        except WorkersEnded:
            pause_s = min(2 * pause_s, _AT_MOST_S)
        log.warning("the explainer has ended; it is started again in %.0f s", pause_s)
        await asyncio.sleep(pause_s)
