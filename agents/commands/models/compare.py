"""`anabranch models compare`: a challenger and the champion on the same events."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.event_loop import run_async, until_signalled
from agents.commands.models.model_names import ComponentArgument, ModelName, component_in_service
from agents.commands.models.service import open_control
from agents.commands.options import BrokerOption, JsonOption, open_registry
from agents.commands.terminal import print_json, stderr, stdout

if TYPE_CHECKING:
    from agents.service.challenger_comparison import Comparison, Judged
    from topics.pipeline import Pipeline

_TELL_S = 1.0


def compare(
    target: ComponentArgument,
    follow: Annotated[
        bool, typer.Option("--follow", help="Until the test has a verdict, or Ctrl-C.")
    ] = False,
    decide: Annotated[
        bool,
        typer.Option(
            "--decide", help="Promote the challenger when it is better, end it when it is worse."
        ),
    ] = False,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="score|signal",
            help="What outcomes judge: the decisions' scores, or the component's own signals. "
            "[score for a feature extractor, whose signal is no probability; else signal]",
        ),
    ] = None,
    alpha: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="The test's chance of a wrong verdict.")
    ] = 0.05,
    max_failures: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="More rows than that without its output: worse."),
    ] = 100,
    broker: BrokerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the challenger that runs with the champion: agreement, flips, and who is better.

    Who is better is a sequential test on the Brier losses of both, event by event as outcomes
    come: its verdict is wrong with a probability of at most ALPHA, however often one looks.
    Scores leave out what later components would have made of the challenger's output.

    Examples:
      anabranch models compare card-fraud/risk-forest

      anabranch models compare card-fraud/risk-forest --follow --decide
    """
    if on not in (None, "score", "signal"):
        raise typer.BadParameter(f"{on!r} is neither score nor signal", param_hint="--on")
    wanted = component_in_service(target)
    comparison = run_async(
        _compare(wanted, broker, on, alpha, max_failures, follow=follow, decide=decide)
    )
    if as_json:
        print_json(comparison.model_dump_json())
    else:
        _print_comparison(comparison)


async def _compare(
    wanted: ModelName, broker: str | None, on: str | None, alpha: float, max_failures: int,
    *, follow: bool, decide: bool,
) -> Comparison:  # fmt: skip
    from agents.service.challenger_comparison import Comparer
    from agents.service.challenger_follower import follow_challenger
    from agents.service.promotion import Promoter

    stopping = asyncio.Event()
    until_signalled(stopping)
    async with open_control(wanted.pipeline, broker, wanted) as (file, settings, control):
        promoter = Promoter(control, file, open_registry())
        champion, challenger = promoter.contestants(wanted.component)
        state = control.state
        comparer = Comparer(
            wanted.component, f"{wanted.component}@{champion}", f"{wanted.component}@{challenger}",
            state.policy.policy if state.policy else file.pipeline.policy, alpha,
            _judged(file.pipeline, wanted.component, on), max_failures,
        )  # fmt: skip
        async with follow_challenger(settings, file.pipeline, comparer) as follower:
            await follower.catch_up()
            while follow and comparer.verdict()[0] == "undecided" and not stopping.is_set():
                tell_at = time.monotonic() + _TELL_S
                while time.monotonic() < tell_at:
                    await follower.more()
                stderr.print(comparer.verdict()[1])
        comparison = comparer.comparison()
        if decide and comparison.verdict == "better":
            await promoter.promote(wanted.component, challenger, comparison.reason)
        elif decide and comparison.verdict == "worse":
            await promoter.end_challenge(wanted.component, comparison.reason)
        return comparison


def _judged(pipeline: Pipeline, name: str, on: str | None) -> Judged:
    from topics.pipeline import kind_of

    is_novelty = kind_of(pipeline.component(name)).is_novelty
    return "score" if on == "score" or (on is None and is_novelty) else "signal"


def _print_comparison(comparison: Comparison) -> None:
    from rich.table import Table

    stdout.print(
        f"{comparison.rows:,} events, {comparison.labelled:,} with an outcome, "
        f"agreement {comparison.agreement:.2%}, {comparison.verdict}"
    )
    if comparison.explored:
        stdout.print(f"{comparison.explored:,} were explored and count 1 / propensity each")
    table = Table(box=None, pad_edge=False)
    for column in (f"by {comparison.on}", "Brier", "AUC ROC", "average precision"):
        table.add_column(column, justify="left" if column.startswith("by") else "right")
    for name, model in (("champion", comparison.champion), ("challenger", comparison.challenger)):
        quality = comparison.quality.get(name)
        figures = (
            (quality.brier, quality.auc, quality.average_precision) if quality else (None,) * 3
        )
        table.add_row(
            f"{name} {model}", *("-" if figure is None else f"{figure:.4f}" for figure in figures)
        )
    stdout.print(table)
    stdout.print(
        f"signals differ by {comparison.mean_difference:.4f} on average, "
        f"{comparison.max_difference:.4f} at most; decided by the challenger: "
        f"{comparison.canary_rows:,}; its failures: {comparison.failures:,}"
    )
    for flip, count in sorted(comparison.flips.items(), key=lambda item: -item[1]):
        stdout.print(f"  {flip}: {count:,}")
    stdout.print(comparison.reason)
