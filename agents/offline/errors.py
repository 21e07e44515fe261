"""Why a file is not scored.

AnabranchError
├── OutOfTimeOrder      rows wait for others that stand too far behind them in the file
├── OutputExists        a file would be overwritten
├── OutputNotWritable   the place for it cannot be written to, or its name says no format
├── NoFeatures          the pipeline extracts none
└── NothingToJudge      no row has both an outcome and a decision, or all have the same outcome
"""

from __future__ import annotations

from pathlib import Path

from topics.errors import AnabranchError


class OutOfTimeOrder(AnabranchError):
    """Windows by another key wait for rows that stand too far behind."""

    def __init__(self, source: str, components: str, rows: int, time: str) -> None:
        super().__init__(
            f"{source}: {rows:,} rows wait for earlier ones further behind: windows of "
            f"{components} go over all partitions in the order of {time}. Sort the file by {time}"
        )


class OutputExists(AnabranchError):
    """A file would be overwritten."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists: name another file, or overwrite it with --force")


class OutputNotWritable(AnabranchError):
    """The file cannot be written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is not written: {why}")


class NoFeatures(AnabranchError):
    """No component of the pipeline extracts features."""

    def __init__(self, pipeline: str) -> None:
        super().__init__(
            f"no component of {pipeline} has features of events: `anabranch score` has the signals"
        )


class NothingToJudge(AnabranchError):
    """There are no outcomes to judge decisions by."""

    def __init__(self, source: str, why: str) -> None:
        super().__init__(f"{source}: {why}")
