"""The runbooks as a dashboard: so a link to one leads somewhere wherever Grafana runs."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard, text
from grafana_foundation_sdk.models import text as forms

from agents.manifests.alerts import RUNBOOKS_UID, runbook_files, runbook_panel


def runbooks() -> dashboard.Dashboard:
    """A text panel for every page."""
    board = dashboard.Dashboard("Anabranch: runbooks").uid(RUNBOOKS_UID).tags(["anabranch"])
    board = board.readonly().description("What each alert means and how to mend it.")
    for page in runbook_files():
        panel = text.Panel().id(runbook_panel(page.stem)).title(page.stem).height(12).span(12)
        panel = panel.mode(forms.TextMode.MARKDOWN).content(page.read_text())
        board = board.with_panel(panel)
    return board
