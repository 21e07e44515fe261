"""`anabranch dead-letters redrive-outcomes`: outcomes that found no decision, once it is there."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async
from agents.commands.options import BrokerOption, JsonOption, PipelineArgument, pipeline_file
from agents.commands.terminal import print_json, stdout

if TYPE_CHECKING:
    from agents.redrive import OutcomeRedrive


def redrive_outcomes(
    pipeline: PipelineArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be published, and publish nothing.")
    ] = False,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish outcomes again that died for want of a decision, where it is there now.

    They stand on <pipeline>.outcomes.dead-letters. Each goes back as it was, once: it takes the
    place that it had among the outcomes of its event, and windows of outcomes, which had it, do not
    count it again. What is no outcome is left: publish it in its right form. A decision about an
    event older than `outcomes: keep` is one that a monitor keeps no more: say a longer time there.

    Examples:
      anabranch dead-letters redrive-outcomes card-fraud --dry-run

      anabranch dead-letters redrive-outcomes card-fraud
    """
    from agents.broker import check_topics, needed_broker, wait_for_broker
    from agents.redrive import redrive_outcomes as publish_again
    from agents.workers import TailReader
    from topics.pipeline import Topology

    settings, own = needed_broker(broker), pipeline_file(pipeline).pipeline

    async def main() -> OutcomeRedrive:
        await wait_for_broker(settings)
        await check_topics(settings, Topology.of(own))
        tail = TailReader(settings)
        await tail.start()
        try:
            return await publish_again(settings, own, tail, dry_run=dry_run)
        finally:
            await tail.stop()

    said: OutcomeRedrive = run_async(main())
    if as_json:
        import orjson

        print_json(orjson.dumps(asdict(said)).decode())
    else:
        print_redrive(said, dry_run=dry_run)


def print_redrive(said: OutcomeRedrive, *, dry_run: bool) -> None:
    """A line for each fate."""
    done = "would be published again" if dry_run else "published again"
    stdout.print(f"{said.letters:,} dead letters of outcomes: {said.ready:,} {done}")
    for count, what in (
        (said.undecided, "wait: no decision about their event is there"),
        (said.too_old, "about events older than decisions are kept (outcomes: keep)"),
        (said.redriven, "were published again before"),
        *((count, f"stay: {error}") for error, count in sorted(said.refused.items())),
    ):
        if count:
            stdout.print(f"{count:,} {what}", soft_wrap=True, highlight=False)
