"""What `anabranch evaluate` prints: figures beside published ones, or why there are none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer
from rich.table import Table

from agents.commands.terminal import stdout
from agents.demo.evaluation_data import outcomes_of_events
from agents.demo.evaluation_stream import Evaluation, NotWhole
from models.report.handbook import (
    BOOK,
    BOOK_SOURCE,
    BOOK_WEEKS,
    ProtocolFigures,
    Weeks,
    protocol_figures,
)
from models.report.training_report import COMPOSED


def report(
    evaluation: Evaluation, weeks: Weeks, tested: Any, unmeasured: Mapping[str, str],
    *, as_json: bool,
) -> None:  # fmt: skip
    """Print the figures, if every valid event has been judged by every stage.

    None of what is *unmeasured*, each with why.

    Exit code 1 when an event has several ends. Raises NotWhole when there are no figures.
    """
    outcomes = outcomes_of_events(evaluation.events).of(tested)
    account, shortfall = evaluation.ledger.total(), evaluation.shortfall()
    counts = {
        "events": account.inputs, "decisions": account.decided, "dead_letters": account.dead,
        "unaccounted": account.unaccounted, "duplicates": account.duplicated,
        "degraded": shortfall.degraded,
        "tested": len(outcomes.labels), "positives": int(outcomes.labels.sum()),
    }  # fmt: skip
    scores = evaluation.scores()
    judged = [name for name in scores if name not in unmeasured and not shortfall]
    rows = {name: protocol_figures(outcomes, scores[name][tested]) for name in judged}
    if as_json:
        composed = rows.pop(COMPOSED).model_dump() if COMPOSED in rows else {}
        others = {"rows": {name: row.model_dump() for name, row in rows.items()}} if rows else {}
        lacking = {"not_measured": unmeasured} if unmeasured else {}
        typer.echo(json.dumps({**composed, **others, **lacking, **counts}))
    else:
        if rows:
            stdout.print(figures_table(rows, weeks))
        for name, why in unmeasured.items():
            stdout.print(f"{name} is not measured: {why}", markup=False, highlight=False)
        stdout.print(", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in counts.items()))
    if shortfall:
        raise NotWhole(shortfall)
    if account.duplicated:
        raise typer.Exit(1)


def figures_table(rows: Mapping[str, ProtocolFigures], weeks: Weeks) -> Table:
    """Our *rows*, and those of the book when *weeks* are the book's."""
    published = BOOK if weeks == BOOK_WEEKS else {}
    table = Table(box=None, pad_edge=False, caption_justify="left")
    for column in ("model", "AUC ROC", "average precision", "card precision@100", ""):
        table.add_column(
            column,
            justify="left" if column in ("model", "") else "right",
            no_wrap=column == "model",
        )
    for shown, mark in ((rows, ""), (published, "published")):
        for name, row in shown.items():
            figures = (row.auc, row.average_precision, row.card_precision_100)
            style = "bold" if name == COMPOSED else None
            table.add_row(name, *(f"{figure:.3f}" for figure in figures), mark, style=style)
    if published:
        table.caption = f"published: {BOOK_SOURCE}"
    return table
