"""The runbooks as a dashboard: so a link to one leads somewhere wherever Grafana runs."""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, text
from grafana_foundation_sdk.models import text as forms

FOLDER = Path(__file__).parents[1] / "runbooks"
UID = "anabranch-runbooks"


def pages() -> list[Path]:
    """The pages, by name; each is a panel whose id is its place in this list, from 1."""
    return sorted(page for page in FOLDER.glob("*.md") if page.stem != "README")


def link_to(name: str) -> str:
    """Address of the page called *name* within Grafana; ValueError when there is none."""
    panel = [page.stem for page in pages()].index(name) + 1
    return f"/d/{UID}?viewPanel={panel}"


def runbooks() -> dashboard.Dashboard:
    """A text panel for every page."""
    board = dashboard.Dashboard("Anabranch: runbooks").uid(UID).tags(["anabranch"]).readonly()
    board = board.description("What each alert means and how to mend it: deploy/runbooks.")
    for number, page in enumerate(pages(), start=1):
        panel = text.Panel().id(number).title(page.stem).height(12).span(12)
        panel = panel.mode(forms.TextMode.MARKDOWN).content(page.read_text())
        board = board.with_panel(panel)
    return board
