"""What was inferred from a data file, for people and for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from agents.commands.terminal import stdout
from agents.commands.train import print_report

if TYPE_CHECKING:
    from models.schema import FieldPlan, InferredSchema, SampledColumns
    from models.training.train import TrainingReport


def as_json(
    path: Path, schema: InferredSchema, sampled: SampledColumns,
    report: TrainingReport | None, following: list[str],
) -> str:  # fmt: skip
    """The report as one JSON object."""
    label = schema.label
    return json.dumps({
        "file": str(path),
        "rows": schema.rows,
        "complete": sampled.complete,
        "label": {
            "column": label.column, "positive": label.positive, "negative": label.others,
            "positives": label.positives, "reason": label.reason,
        },
        "columns": [
            {
                "column": plan.column, "field": plan.name if plan.field else None,
                "type": plan.field.type if plan.field else None,
                "time_format": plan.time_format, "number_format": plan.number_format,
                "missing_words": list(plan.missing_words),
                "optional": plan.field.optional if plan.field else None,
                "role": schema.role(plan) or None,
                "features": [feature.name for feature in plan.features], "remark": plan.remark,
            }
            for plan in schema.plans
        ],
        "csv": sampled.csv.model_dump(exclude_none=True),
        "warnings": [*sampled.remarks, *schema.warnings],
        "training": report.model_dump() if report else None,
        "next": following,
    }, ensure_ascii=False)  # fmt: skip


def print_schema(
    path: Path, schema: InferredSchema, sampled: SampledColumns,
    report: TrainingReport | None, following: list[str],
) -> None:  # fmt: skip
    """Print the report: a table of the columns, the label, warnings, what training reached."""

    def say(text: str, style: str = "") -> None:
        stdout.print(text, style=style, highlight=False, soft_wrap=True)

    table = Table(box=None, pad_edge=False)
    for heading in ("column", "field", "type", "missing", "becomes"):
        table.add_column(heading)
    for plan in schema.plans:
        cells = _cells(schema, plan)
        table.add_row(*cells)
    stdout.print(table)
    label = schema.label
    others = ", ".join(label.others[:5]) + (", …" if len(label.others) > 5 else "")
    say(
        f"label {label.column}: positive is {label.positive} ({label.reason}), in "
        f"{label.positives:,} of {int(label.known.sum()):,} rows; negative: {others}"
    )
    if not sampled.complete:
        say(f"inferred from the first {schema.rows:,} rows")
    if schema.published_at is not None:
        say("no event time: for training, rows are dealt out at random (always the same way)")
    if written := _written(sampled):
        say(f"the file is read with {written}")
    for warning in (*sampled.remarks, *schema.warnings):
        say(f"warning: {warning}", style="yellow")
    say(f"{path} written")
    if report is not None:
        print_report(report)
    say("next:")
    for command in following:
        where = "    # in another terminal" if " publish " in command else ""
        say(f"  {command}{where}")


def _written(sampled: SampledColumns) -> str:
    """How a CSV file is written, where that is not as usual."""
    form = sampled.csv
    between = {"\t": "tabs", ";": "semicolons", "|": "bars"}
    return ", ".join(filter(None, [
        form.encoding,
        form.separator and f"{between.get(form.separator, form.separator)} between columns",
        form.escape and "backslashes before quotes",
    ]))  # fmt: skip


def _cells(schema: InferredSchema, plan: FieldPlan) -> tuple[str, ...]:
    role = schema.role(plan)
    features = ", ".join(
        feature.name if feature.apply == "identity" else f"{feature.name} ({feature.apply})"
        for feature in plan.features
    )
    becomes = "; ".join(filter(None, [role, features or plan.remark]))
    if plan.field is None:
        return plan.column or "", "-", "-", "-", f"left out: {plan.remark}"
    missing = "some" if plan.field.optional else "none"
    form = plan.time_format or plan.number_format
    words = f"without {', '.join(plan.missing_words)}" if plan.missing_words else ""
    kind = " ".join(filter(None, [plan.field.type, form, words]))
    return plan.column or "(generated)", plan.name, kind, missing, becomes
