"""`anabranch models compare`: a challenger and the champion on the same events."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from agents.commands.shared import BrokerOption, JsonOption, print_json, run_async, stderr, stdout
from agents.commands.target import ComponentArgument, component_in, controlling

if TYPE_CHECKING:
    from agents.commands.model_names import ModelName
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
    found = run_async(
        _compare(
            component_in(target), broker, on, alpha, max_failures, follow=follow, decide=decide
        )
    )
    if as_json:
        print_json(found.model_dump_json())
    else:
        _print_comparison(found)


async def _compare(
    wanted: ModelName, broker: str | None, on: str | None, alpha: float, max_failures: int,
    *, follow: bool, decide: bool,
) -> Comparison:  # fmt: skip
    from agents.commands.shared import until_signalled
    from agents.service.challenger_comparison import Comparer
    from agents.service.challenger_follower import follow_challenger
    from agents.service.promotion import Promoter
    from models.registry import Registry
    from topics.settings import HomeSettings

    stopping = asyncio.Event()
    until_signalled(stopping)
    async with controlling(wanted.pipeline, broker, wanted) as ((file, settings), control):
        promoter = Promoter(control, file, Registry(HomeSettings().registry))
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
        found = comparer.comparison()
        if decide and found.verdict == "better":
            await promoter.promote(wanted.component, challenger, found.reason)
        elif decide and found.verdict == "worse":
            await promoter.end_challenge(wanted.component, found.reason)
        return found


def _judged(pipeline: Pipeline, name: str, on: str | None) -> Judged:
    from topics.pipeline import kind_of

    is_novelty = kind_of(pipeline.component(name)).is_novelty
    return "score" if on == "score" or (on is None and is_novelty) else "signal"


def _line(found: Comparison) -> str:
    return (
        f"{found.rows:,} events, {found.labelled:,} with an outcome, "
        f"agreement {found.agreement:.2%}, {found.verdict}"
    )


def _print_comparison(found: Comparison) -> None:
    from rich.table import Table

    stdout.print(_line(found))
    table = Table(box=None, pad_edge=False)
    for column in (f"by {found.on}", "Brier", "AUC ROC", "average precision"):
        table.add_column(column, justify="left" if column.startswith("by") else "right")
    for name, model in (("champion", found.champion), ("challenger", found.challenger)):
        quality = found.quality.get(name)
        figures = (
            (quality.brier, quality.auc, quality.average_precision) if quality else (None,) * 3
        )
        table.add_row(f"{name} {model}", *("-" if it is None else f"{it:.4f}" for it in figures))
    stdout.print(table)
    stdout.print(
        f"signals differ by {found.mean_difference:.4f} on average, {found.max_difference:.4f} at "
        f"most; decided by the challenger: {found.canary_rows:,}; its failures: {found.failures:,}"
    )
    for flip, count in sorted(found.flips.items(), key=lambda it: -it[1]):
        stdout.print(f"  {flip}: {count:,}")
    stdout.print(found.reason)
