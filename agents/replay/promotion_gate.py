"""Whether a version may go into service, by what it would have decided of recorded events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agents.replay.errors import GateRefused
from agents.replay.gate import Gate, figures_of
from agents.replay.recorded_range import SourceRange
from agents.replay.what_if import WhatIf
from agents.replay.what_if_report import WhatIfReport
from topics.records import Evidence

_SHOWN = 8
"""Of a figure that is refused, so many digits."""


@dataclass(frozen=True, slots=True)
class PassedGate:
    """A condition that is true, and all that it was judged by."""

    evidence: Evidence
    report: WhatIfReport


async def passed_gate(
    gate: Gate, what: str, what_if: WhatIf, ranges: Sequence[SourceRange], since: datetime
) -> PassedGate:
    """Judge *what* by the decisions about *ranges*: events of *since* then.

    Raises GateRefused, UnknownFigure, and what `WhatIf.report` does.
    """
    report = await what_if.report(ranges)
    result = gate.judge(figures_of(report))
    known = {name: value for name, value in result.figures.items() if value is not None}
    if not result.passed:
        raise GateRefused(what, gate.text, _said(gate, result.figures, report), report.notes)
    evidence = Evidence(
        condition=gate.text, since=since.isoformat(timespec="milliseconds"),
        offsets={of.partition: (of.start, of.end) for of in ranges},
        decided=report.events.decided,
        outcomes=0 if report.outcomes is None else report.outcomes.known,
        figures=known, report=report.digest,
    )  # fmt: skip
    return PassedGate(evidence, report)


def _said(gate: Gate, figures: Mapping[str, float | None], report: WhatIfReport) -> list[str]:
    """Of each comparison what it was held against."""
    lines = [f"decided {report.events.decided:,}"]
    for each in gate.comparisons:
        figure = figures[each.figure]
        value = "cannot be known" if figure is None else f"it is {figure:.{_SHOWN}g}"
        lines.append(f"{each.text}: {value}")
    return lines
