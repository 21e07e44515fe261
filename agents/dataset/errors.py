"""Why a data set is not written.

AnabranchError
├── DatasetExists       a file would be overwritten
└── DatasetNotWritable  the place for it cannot be written to
"""

from __future__ import annotations

from pathlib import Path

from topics.errors import AnabranchError


class DatasetExists(AnabranchError):
    """A file would be overwritten."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists: name another file, or overwrite it with --force")


class DatasetNotWritable(AnabranchError):
    """The file cannot be written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is not written: {why}")
