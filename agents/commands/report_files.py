"""Reports on disk: a page to read, and of a training the same as JSON beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from topics.errors import AnabranchError, MissingExtra
from topics.file_content import check_file

if TYPE_CHECKING:
    from models.report.training_report import TrainingReport


class ReportNotWritable(AnabranchError):
    """The place for the report cannot be written to."""

    def __init__(self, path: Path, cause: str, option: str = "--report") -> None:
        super().__init__(f"{path}: the report cannot be written there: {cause}; see {option} FILE")


def check_report_place(page: Path | None, option: str = "--report") -> None:
    """Raise, before hours of work, what would keep a page from being written at *page*.

    Raises ReportNotWritable and MissingExtra; nothing for None, the place by default.
    """
    from models.report.html_page import check_can_render

    if page is None:
        return
    if page.suffix.lower() not in (".html", ".htm"):
        raise ReportNotWritable(page, "its name must end in .html", option)
    check_can_render()
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        if page.exists():
            check_file(page)  # a FIFO would wait for a reader
        with page.open("ab"):
            pass
    except OSError as error:
        raise ReportNotWritable(page, error.strerror or str(error), option) from error


def write_page(page: Path, content: str, option: str) -> None:
    """Write a page that is no training's. Raises ReportNotWritable."""
    try:
        page.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ReportNotWritable(page, error.strerror or str(error), option) from error


def write_report(report: TrainingReport, page: Path | None, home: Path) -> list[Path]:
    """Write the page and its JSON, and return the files; *page* None: in *home*/reports.

    Only there, where nobody asked for it, the page is left out when its extra is missing.
    Raises ReportNotWritable and MissingExtra.
    """
    from models.report.page import report_page

    made_at = datetime.now(UTC)
    path = page or home / "reports" / f"{report.pipeline}-{made_at:%Y%m%dT%H%M%SZ}.html"
    contents = {path.with_suffix(".json"): report.model_dump_json(indent=1)}
    try:
        contents = {path: report_page(report, made_at), **contents}
    except MissingExtra:
        if page is not None:
            raise
    for file, content in contents.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
        except OSError as error:
            raise ReportNotWritable(file, error.strerror or str(error)) from error
    return list(contents)
