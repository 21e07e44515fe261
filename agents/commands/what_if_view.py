"""What `anabranch replay` prints of a what-if."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from agents.commands.terminal import stdout

if TYPE_CHECKING:
    from agents.replay.what_if_report import OutcomeFigures, Quality, ScoreShift, WhatIfReport

_NAME_WIDTH = 28
_SHOWN_QUANTILES = ("0.01", "0.25", "0.5", "0.75", "0.99")


def print_report(report: WhatIfReport) -> None:
    """The report in tables of 80 columns."""
    events = report.events
    for line in changes_of(report):
        stdout.print(line, soft_wrap=True, highlight=False)
    stdout.print(
        f"{report.changed:,} of {events.decided:,} decisions change ({report.changed_share:.3%})",
        style="bold", highlight=False,
    )  # fmt: skip
    stdout.print(_flows(report))
    if report.scores is not None and report.scores.largest_absolute:
        _print_shift(report.scores)
    if report.outcomes is not None:
        stdout.print(_quality(report.outcomes))
    for name, segments in report.segments.items():
        table = _table(name, "events", "changed", "share", "mean shift", "cost")
        for each in segments:
            cost = None if each.outcomes is None else each.outcomes.cost
            table.add_row(
                each.segment, f"{each.events:,}", f"{each.changed:,}", f"{each.share:.2%}",
                _signed(each.mean_shift), _signed(cost),
            )  # fmt: skip
        stdout.print(table)
    for example in [example for flow in report.flows for example in flow.examples[:1]]:
        source = example.source
        stdout.print(
            f"{source.topic}/{source.partition}/{source.offset}  {example.event_id}",
            soft_wrap=True, highlight=False,
        )  # fmt: skip
        for reason in (example.reason_before, example.reason_after, example.unexplained):
            if reason is not None:
                stdout.print(f"  {reason}", soft_wrap=True, highlight=False)
    for note in report.notes:
        stdout.print(f"note: {note}", soft_wrap=True, highlight=False)


def _print_shift(shift: ScoreShift) -> None:
    quantiles = ", ".join(f"{float(at):.0%} {shift.quantiles[at]:+.4f}" for at in _SHOWN_QUANTILES)
    stdout.print(
        f"scores move by {shift.mean:+.4f} in the mean, by {shift.largest_absolute:.4f} at most",
        highlight=False,
    )
    stdout.print(f"  quantiles of that: {quantiles}", highlight=False)


def changes_of(report: WhatIfReport) -> list[str]:
    """What is changed, in lines."""
    change, said = report.change, []
    if change.weights is not None:
        said.append(f"weights@{change.weights}")
    if change.policy is not None:
        thresholds = ", ".join(f"{name} from {least:g}" for name, least in change.policy.items())
        said.append(f"policy {change.policy_version}: {thresholds}")
    said += [f"{model} ({digest[:19]}…)" for model, digest in change.models.items()]
    return [f"{report.pipeline} with {'; '.join(said)}"]


def _flows(report: WhatIfReport) -> Table:
    table = _table("from", "to", "events", "share")
    table.columns[1].justify = "left"
    for flow in report.flows:
        changes = flow.before != flow.after
        table.add_row(
            flow.before, flow.after if changes else "the same", f"{flow.events:,}",
            f"{flow.share:.3%}", style=None if changes else "dim",
        )  # fmt: skip
    return table


def _quality(figures: OutcomeFigures) -> Table:
    """Before and after, of the events whose outcome is known."""
    table = _table(f"{figures.known:,} outcomes, {figures.positives:,} positive", "before", "after")
    for name, figure in (
        ("precision", "precision"), ("recall", "recall"),
        ("average precision", "average_precision"), ("AUC ROC", "auc"), ("mean cost", "cost"),
    ):  # fmt: skip
        table.add_row(name, _with_interval(figures.before, figure),
                      _with_interval(figures.after, figure))  # fmt: skip
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for at, column in enumerate(columns):
        table.add_column(
            column, justify="right" if at else "left", overflow="ellipsis", no_wrap=True,
            max_width=_NAME_WIDTH,
        )  # fmt: skip
    return table


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _with_interval(quality: Quality, name: str) -> str:
    """The figure and its 95 % interval."""
    said = _figure(getattr(quality, name))
    if name not in quality.intervals:
        return said
    low, high = quality.intervals[name]
    return f"{said} [{low:.3f}, {high:.3f}]"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"
