"""Why a data set is not written, or a topic not exported.

AnabranchError
├── DatasetExists       a file would be overwritten
├── DatasetNotWritable  the place for it cannot be written to
├── OtherFeatures       a component has written other features than the file has
├── NotATopic           the pipeline has no such topic
├── ExportRunning       another export writes to the folder
└── OtherExport         the folder holds something else
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


class OtherFeatures(AnabranchError):
    """A component has written another number of features than the pipeline file has."""

    def __init__(
        self, component: str, written: int, stated: int, *, can_be_backfilled: bool
    ) -> None:
        way_out = (
            "--backfill computes those of the file from the events, or give the file that served"
            if can_be_backfilled
            else "its windows are by another key than the events', or of outcomes, and such are "
            "not backfilled. Give the file that served; or have the new component served first, "
            "in shadow or under another name, and take the data set from then on"
        )
        super().__init__(
            f"{component} has written {written} features, and the pipeline file has {stated}: "
            f"{way_out}"
        )


class NotATopic(AnabranchError):
    """The pipeline has no such topic."""

    def __init__(self, topic: str, pipeline: str) -> None:
        super().__init__(
            f"{topic} is no topic of {pipeline}, whose file says how its records are read; "
            f"`anabranch topics {pipeline}` lists them"
        )


class ExportRunning(AnabranchError):
    """Another export writes to the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"another export writes to {folder}: wait for it, or take another folder")


class OtherExport(AnabranchError):
    """What the folder holds is not the beginning of this export."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(f"{folder} is no export to go on with: {why}; take another folder")
