"""The runbooks: a page for each alert, and where Grafana shows it."""

from __future__ import annotations

import zlib
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "deploy" / "runbooks"
RUNBOOKS_UID = "anabranch-runbooks"


def runbook_files() -> list[Path]:
    """The pages, by name."""
    return sorted(page for page in FOLDER.glob("*.md") if page.stem != "README")


def runbook_panel(name: str) -> int:
    """The panel that shows a page: it stays when other pages come and go, and so do links to it."""
    return zlib.crc32(name.encode()) & 0xFFFFFF


def runbook_path(name: str) -> str:
    """Where Grafana shows the page called *name*; ValueError when there is none."""
    if not (FOLDER / f"{name}.md").is_file():
        raise ValueError(f"no runbook {name}")
    return f"/d/{RUNBOOKS_UID}?viewPanel={runbook_panel(name)}"
