"""`anabranch rollout compare`: what both pipelines have decided of the same events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from agents.commands.event_loop import run_async
from agents.commands.options import BrokerOption, JsonOption, pipeline_file
from agents.commands.rollout.pipelines import AfterArgument, BeforeOption
from agents.commands.terminal import stdout

if TYPE_CHECKING:
    from agents.rollout import Comparison


def compare(
    new: AfterArgument,
    old: BeforeOption,
    last: Annotated[
        int, typer.Option("--last", min=1, max=1_000_000, help="So many of the latest decisions.")
    ] = 20_000,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the latest decisions of a changed pipeline with those of the one that runs.

    Event by event, however far each has come: which decisions are others, from what to what, and
    how far scores are apart, of events that are degraded in neither. Exit code 1 when they have
    decided none of these events both.

    Examples:
      anabranch rollout compare card-fraud-v2.yaml --from card-fraud

      anabranch rollout compare card-fraud-v2.yaml --from card-fraud --last 100000 --json
    """
    from agents.broker import needed_broker, wait_for_broker
    from agents.rollout import compare as compared

    after, before = pipeline_file(new).pipeline, pipeline_file(old).pipeline
    settings = needed_broker(broker)

    async def run() -> Comparison:
        await wait_for_broker(settings)
        return await compared(settings, before, after, last)

    comparison: Comparison = run_async(run())
    if as_json:
        typer.echo(json.dumps(comparison.summary()))
    else:
        _show(comparison, before.name, after.name)
    if not comparison.compared:
        raise typer.Exit(1)


def _show(comparison: Comparison, before: str, after: str) -> None:
    changed = sum(comparison.changed.values())
    share = changed / comparison.compared if comparison.compared else 0
    stdout.print(
        f"{comparison.compared:,} events decided by {before} and {after}, "
        f"{comparison.not_by_both:,} by one of them", highlight=False, soft_wrap=True,
    )  # fmt: skip
    stdout.print(f"{changed:,} decisions changed ({share:.2%})", highlight=False)
    if changed:
        table = Table("from", "to", "events", box=None, pad_edge=False)
        for each, events in comparison.changed.most_common():
            table.add_row(each.before, each.after, f"{events:,}")
        stdout.print(table)
    scores = comparison.summary()["score_difference"]
    if isinstance(scores, dict):
        stdout.print(
            f"scores: {after} minus {before} {scores['mean']:+.4f} in the mean; apart by "
            f"{scores['mean_absolute']:.4f} in the mean, {scores['p99_absolute']:.4f} in 99 of "
            f"100, {scores['largest_absolute']:.4f} at most", highlight=False, soft_wrap=True,
        )  # fmt: skip
    stdout.print(
        f"degraded: {comparison.degraded_before:,} of {before}, {comparison.degraded_after:,} of "
        f"{after}", highlight=False, soft_wrap=True,
    )  # fmt: skip
