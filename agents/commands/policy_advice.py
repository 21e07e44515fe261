"""What a training says about thresholds: printed to paste, or written into the pipeline file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from topics.errors import AnabranchError
from topics.pipeline import rewrite, scalar, threshold_text, with_thresholds

if TYPE_CHECKING:
    from models.report.decision_costs import CostReport
    from topics.pipeline import PipelineFile


class NoCosts(AnabranchError):
    """The pipeline file does not say what decisions cost."""

    def __init__(self, path: Path, decisions: list[str]) -> None:
        example = ", ".join(f"{scalar(name)}: {{positive: …, negative: …}}" for name in decisions)
        super().__init__(
            f"{path} states no costs to choose thresholds by: add policy: {{costs: {{{example}}}}}"
        )


def check_costs(file: PipelineFile) -> None:
    """Raise NoCosts, before hours of training, when nothing could be written in the end."""
    policy = file.pipeline.policy
    if policy.costs is None:
        raise NoCosts(file.path, [policy.otherwise, *policy.thresholds])


def advice(file: PipelineFile, costs: CostReport) -> str:
    """The thresholds of the least cost against the file's, with lines to paste."""
    stated, best = costs.stated.cost or 0.0, costs.best.cost or 0.0
    rows = sum(decision.rows for decision in costs.best.decisions.values())
    compared = (
        f"cost of 1,000 events: {1000 * stated:,.2f} by the thresholds of {file.path.name}, "
        f"{1000 * best:,.2f} by those that cost the least on {costs.chosen_on:,} held-out events "
        f"(both on {rows:,} later ones)"
    )
    lines = [compared]
    if costs.never_worth_it:
        lines.append(f"never worth its cost: {', '.join(costs.never_worth_it)}")
    if best >= stated:
        return "\n".join([*lines, "the thresholds of the file cost no more: keep them"])
    lines += ["policy:", f"  version: {file.pipeline.policy.version + 1}", "  thresholds:"]
    lines += [
        f"    {scalar(name)}: {threshold_text(at)}" for name, at in costs.best.thresholds.items()
    ]
    return "\n".join(lines)


def write_policy(file: PipelineFile, costs: CostReport) -> str:
    """Put the thresholds of the least cost into the pipeline file; say what was done.

    Only when they cost less on the later events too. Raises PolicyNotEditable and
    FileNotWritable; the file is then as it was.
    """
    if (costs.best.cost or 0.0) >= (costs.stated.cost or 0.0):
        return f"{file.path} is left as it was: its thresholds cost no more on later events"
    version = file.pipeline.policy.version + 1
    rewrite(file.path, lambda text: with_thresholds(text, costs.best.thresholds, version))
    return f"{file.path} now has the thresholds of policy version {version}"
