"""What can be wrong with a data file.

AnabranchError
└── DatasetError
    ├── DatasetNotFound      there is no such file
    ├── UnknownFormat        its name does not end in .parquet, .csv or .jsonl
    ├── UnreadableDataset    its bytes are not what its name says (JSONL: which line)
    ├── MissingColumns       event fields have no column
    └── LabelError
        ├── MissingLabel     the file has no such label column
        └── LabelNotBinary   the label column holds something besides 0 and 1
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from topics.errors import AnabranchError


class DatasetError(AnabranchError):
    """A data file cannot be used; the message names the file and what to do."""


class DatasetNotFound(DatasetError):
    """There is no such file."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: there is no such file; give FILE.parquet, .csv, .jsonl or -")


class UnknownFormat(DatasetError):
    """The file's name does not say how to read it."""

    def __init__(self, path: str, known: Collection[str]) -> None:
        super().__init__(
            f"{path}: the name must end in one of {', '.join(sorted(known))}, "
            "or be - for JSON lines on standard input"
        )


class UnreadableDataset(DatasetError):
    """The file's bytes are not what its name says."""

    def __init__(self, path: str, reason: str, *, line: int | None = None) -> None:
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: cannot be read: {reason}")


class MissingColumns(DatasetError):
    """Event fields have no column in the file."""

    def __init__(self, path: str, missing: Sequence[str], found: Collection[str]) -> None:
        which = "field" if len(missing) == 1 else "fields"
        super().__init__(
            f"{path}: no column for the event {which} {', '.join(missing)}; the file has "
            f"{_listed(found)}; name the column in the pipeline file, for example "
            f"data: {{columns: {{COLUMN: {missing[0]}}}}}"
        )


class LabelError(DatasetError):
    """The true outcomes cannot be read from the file."""


class MissingLabel(LabelError):
    """The file has no such label column."""

    def __init__(self, path: str, label: str, found: Collection[str]) -> None:
        super().__init__(
            f"{path}: no label column {label}; the file has {_listed(found)}; "
            "set data: {label: COLUMN} in the pipeline file"
        )


class LabelNotBinary(LabelError):
    """The label column holds something besides 0 and 1, or false and true."""

    def __init__(self, path: str, label: str, value: object, row: int) -> None:
        super().__init__(
            f"{path}: label column {label} must hold 0 or 1, row {row} has "
            f"{'no value' if value is None else repr(value)} "
            "(rows count from 1, without the header)"
        )


def _listed(columns: Collection[str], most: int = 30) -> str:
    """The columns' names, cut short when there are very many."""
    names = list(columns)
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return ("columns " + ", ".join(names[:most]) + more) if names else "no columns"
