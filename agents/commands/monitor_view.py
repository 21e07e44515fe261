"""Live quality as people read it: the newest windows, each figure with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from topics.records import COMPOSED, Interval, QualityFinding, SubjectQuality

_SHORT = {
    "average_precision": "av. precision", "calibration_error": "calibration err.",
}  # fmt: skip
_TREND = 10
"""So many windows are shown side by side."""


def quality_tables(findings: Sequence[QualityFinding]) -> Iterator[Group | Table]:
    """The course of the composed score, then everything about the newest window of each state."""
    ordered = sorted(findings, key=lambda finding: finding.since)
    yield _course(ordered[-_TREND:])
    for state in ("matured", "estimated"):
        of_state = [finding for finding in ordered if finding.state == state]
        if of_state:
            yield _window(of_state[-1])


def _course(findings: Sequence[QualityFinding]) -> Table:
    table = Table(title="composed score by window", title_justify="left", box=None, pad_edge=False)
    table.add_column("since")
    for name in ("decisions", "known", "positive"):
        table.add_column(name, justify="right")
    for name in ("AUC", "av. precision", "estimate less AUC"):
        table.add_column(name, justify="right")
    for finding in findings:
        composed = next((each for each in finding.subjects if each.subject == COMPOSED), None)
        is_matured = finding.state == "matured"
        table.add_row(
            finding.since[:16].replace("T", " "), f"{finding.decisions:,}", f"{finding.known:,}",
            f"{composed.positives:,}" if composed and is_matured else "",
            *(_figure(composed, name, estimated=not is_matured)
              for name in ("auc", "average_precision")),
            f"{composed.estimate_error['auc']:+.3f}"
            if composed and "auc" in composed.estimate_error else "",
        )  # fmt: skip
    return table


def _window(finding: QualityFinding) -> Group:
    """All subjects of a window: figures below each other, as there are many."""
    title = f"\n{finding.since[:16].replace('T', ' ')} … {finding.until[:16].replace('T', ' ')}"
    what = "by outcomes" if finding.state == "matured" else "estimated, before outcomes are there"
    table = Table(box=None, pad_edge=False)
    for name in ("subject", "figure"):
        table.add_column(name, overflow="fold")
    for name in ("value", "95 % interval", "promised"):
        table.add_column(name, justify="right")
    for each in finding.subjects:
        rows = f"{each.subject} ({each.rows:,})"
        for name, figure in each.figures.items():
            promised = each.promised.get(name)
            is_outside = name in each.outside
            table.add_row(
                rows, _SHORT.get(name, name), f"{figure.value:.4g}", _bounds(figure),
                "" if promised is None else f"{promised:.3f}{' ✗' if is_outside else ''}",
                style="red" if is_outside else None,
            )  # fmt: skip
            rows = ""
    notes = [Text(f"  {text}", style="yellow") for text in finding.unknown]
    return Group(Text(f"{title}, {what}", style="bold"), table, *notes)


def _bounds(figure: Interval) -> str:
    if figure.low is None or figure.high is None:
        return "too few"
    return f"{figure.low:.4g} … {figure.high:.4g}"


def _figure(subject: SubjectQuality | None, name: str, *, estimated: bool) -> str:
    figure = None if subject is None else subject.figures.get(name)
    if figure is None:
        return ""
    away = (
        ""
        if figure.low is None or figure.high is None
        else (f" ±{(figure.high - figure.low) / 2:.3f}")
    )
    return f"{'~' if estimated else ''}{figure.value:.3f}{away}"
