"""Wide events of one key for a slow worker on the embedded broker, which drops what is too much."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agents.broker.pipeline_topics import ensure_topics
from agents.demo.event_stream import Stream
from agents.process.child_process import worker_process
from topics.pipeline.file import load_pipeline
from topics.pipeline.topology import Topology
from topics.settings import BrokerSettings

NUMBERS, EVENTS = 2000, 900
KEPT_BYTES = 5 * 2**20
"""Of a partition."""
PIPELINE = f"""
pipeline: wide
event:
  id: id
  key: machine
  time: at
  fields:
    id: {{type: string}}
    machine: {{type: string}}
    at: {{type: timestamp}}
    spectrum: {{type: vector, length: {NUMBERS}}}
components:
  - {{name: hangs, import: "tests.integration.velocity:Hanging", from: [events],
     options: {{flag: FLAG}}}}
weighting: {{from: [hangs], weights: {{hangs: 1.0}}, deadline_ms: 600000}}
policy: {{thresholds: {{decline: 0.5}}}}
"""


class Counted(Stream):
    """A stream of which only the ends count."""

    def decided(self, decision: Mapping[str, Any]) -> None:
        """Nothing is kept."""


def events() -> Iterator[tuple[Mapping[str, object], bool | None]]:
    spectrum = [0.125 * (number % 8) for number in range(NUMBERS)]
    for number in range(EVENTS):
        at = f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"
        yield {"id": f"e-{number}", "machine": "m", "at": at, "spectrum": spectrum}, None


async def test_no_event_is_dropped_before_it_is_read(
    broker: BrokerSettings, tmp_path: Path
) -> None:
    path, flag = tmp_path / "wide.yaml", tmp_path / "hang"
    path.write_text(PIPELINE.replace("FLAG", str(flag)))
    flag.touch()
    stream = Counted(load_pipeline(path).pipeline)
    await ensure_topics(broker, Topology.of(stream.pipeline))

    async def begin_late() -> None:
        """Let the component go when no more is published before anything has ended."""
        published = -1
        while published < stream.published or not published:
            published = stream.published
            await asyncio.sleep(2)
        flag.unlink()

    async with worker_process(path, tmp_path / "registry", broker) as workers:
        late = asyncio.create_task(begin_late())
        await stream.stream(broker, events(), workers, patience_s=60)
        await late
    account = stream.ledger.total()
    assert (account.inputs, account.decided, account.unaccounted) == (EVENTS, EVENTS, 0)
    assert sum(stream._sizes) > KEPT_BYTES, "or all would have fitted at once"
