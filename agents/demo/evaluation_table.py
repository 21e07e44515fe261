"""The figures of an evaluation for people, beside published ones where those apply."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from models.report.handbook import BOOK, BOOK_SOURCE, BOOK_WEEKS, ProtocolFigures, Weeks
from models.report.training_report import COMPOSED


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
