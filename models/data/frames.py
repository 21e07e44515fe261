"""Tables in memory, of pandas, Polars or Arrow, read as files are.

Arrow is what stands between: whatever gives a stream of it (the Arrow PyCapsule interface) is a
frame. pyarrow and pandas have no types, so frames are `Any` here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from topics.errors import AnabranchError, MissingExtra


class NotAFrame(AnabranchError):
    """What was given is no table."""

    def __init__(self, given: object, cause: str) -> None:
        super().__init__(
            f"a {type(given).__name__} is no frame that can be read ({cause}): give a pandas or "
            "Polars DataFrame, a pyarrow Table, or the path of a .parquet, .csv or .jsonl file"
        )


@dataclass(frozen=True, slots=True)
class FrameTable:
    """A frame as an Arrow table; it is called *name* where something is wrong with it."""

    table: Any
    """A pyarrow.Table."""
    kind: str
    """The library that the frame is of, by its package: pandas, polars, pyarrow, or another."""
    name: str = "the frame"
    index: Any = None
    """Of a frame of pandas."""

    def __str__(self) -> str:
        return self.name

    @property
    def rows(self) -> int:
        """How many there are."""
        return int(self.table.num_rows)

    @classmethod
    def of(cls, frame: Any) -> FrameTable:
        """The table of *frame*, without an index of pandas. Raises NotAFrame, MissingExtra."""
        try:
            import pyarrow as pa
        except ImportError as error:
            raise MissingExtra("a frame", "data") from error
        kind = type(frame).__module__.partition(".")[0]
        try:
            if kind == "pandas":
                table = pa.Table.from_pandas(frame, preserve_index=False)
            elif isinstance(frame, pa.Table):
                table = frame
            else:
                table = pa.table(frame)
        except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
            raise NotAFrame(frame, str(error).splitlines()[0]) from error
        if len(set(table.column_names)) < len(table.column_names):
            raise NotAFrame(frame, "two of its columns have one name")
        return cls(table, kind, index=frame.index if kind == "pandas" else None)

    def like(self, table: Any, *, row_by_row: bool = False) -> Any:
        """An Arrow *table* as a frame of the same library; *row_by_row* it has its index, too."""
        if self.kind == "pandas":
            frame = table.to_pandas()
            if row_by_row:
                frame.index = self.index
            return frame
        if self.kind == "polars":
            import polars as pl

            return pl.from_arrow(table)
        return table
