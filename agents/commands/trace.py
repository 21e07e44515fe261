"""`anabranch trace`: the way of one event through the topics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async
from agents.commands.options import (
    BrokerOption,
    JsonOption,
    PipelineArgument,
    SinceOption,
    pipeline_file,
)
from agents.commands.terminal import counting_bars, print_json, stderr, stdout

if TYPE_CHECKING:
    from agents.trace import EventTrace


def trace(
    pipeline: PipelineArgument,
    event: Annotated[
        str,
        typer.Argument(
            metavar="EVENT_ID|TOPIC/PARTITION/OFFSET",
            help="An event's id, or where it, its decision or its dead letter stands.",
        ),
    ],
    since: SinceOption = None,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the way of one event: each component's record of it, its times, and how it ended.

    A tree: what a component has written stands below the input that it got last. With it how long
    the first input waited for the last (join), and the time from there to the record (queue and
    computing, which no record tells apart); the model by version and digest, the signal, its
    weight and contribution; why a stage is missing; dead letters, and each attempt to redrive.
    Coordinates are looked up in a moment, however much the topics hold. An id is looked for in all
    events, the newest first, as only that tells whether it is unique.
    Exit code 1, and why, when there is no such event, or more than one, or nothing is left of it.

    Examples:
      anabranch trace card-fraud card-fraud.events/2/17

      anabranch trace card-fraud card-fraud.dead-letters/0/3

      anabranch trace card-fraud tx-000000042 --since 2026-01-31T12:00:00Z

      anabranch trace card-fraud tx-000000042 --json | jq .attempts[0].end
    """
    from agents.broker import check_topics, needed_broker, wait_for_broker
    from agents.commands.trace_view import lines_of
    from agents.trace import EventSearch, EventTracer
    from agents.workers import TailReader
    from topics.pipeline import Topology

    settings, file = needed_broker(broker), pipeline_file(pipeline)

    async def main() -> EventTrace:
        await wait_for_broker(settings)
        await check_topics(settings, Topology.of(file.pipeline))
        tail = TailReader(settings)
        await tail.start()
        try:
            since_ms = None if since is None else int(since.timestamp() * 1000)
            with counting_bars(disable=not stderr.is_terminal) as bars:
                bar = bars.add_task("events looked at", visible=False)
                source = await EventSearch(tail, file.pipeline).find(
                    event, since_ms,
                    lambda done, total: bars.update(
                        bar, completed=done, total=total, visible=True
                    ),
                )  # fmt: skip
            return await EventTracer(tail, file.pipeline).trace(source)
        finally:
            await tail.stop()

    result: EventTrace = run_async(main())
    if as_json:
        print_json(result.model_dump_json(by_alias=True))
        return
    for line in lines_of(result):
        stdout.print(line, highlight=False)
