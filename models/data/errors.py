"""What can be wrong with a data file.

AnabranchError
└── DatasetError
    ├── DatasetNotFound      there is no such file
    ├── UnknownFormat        its name does not end in .parquet, .csv or .jsonl
    ├── UnreadableDataset    its bytes are not what its name says (JSONL: which line)
    │   ├── OtherEncoding    it is UTF-16, compressed, or another kind of file
    │   └── NotUtf8          a byte in it is no UTF-8 (Latin-1, most likely)
    ├── MissingColumns       event fields have no column
    ├── FeaturesNotServed    a data set as served lacks features that the file has now
    └── LabelError
        ├── MissingLabel     the file has no such label column
        └── LabelNotBinary   the label column holds something besides 0 and 1
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from topics.errors import AnabranchError

TO_UTF8 = (
    "if the file is Latin-1 or Windows-1252, say so for CSV in the pipeline file, data: {csv: "
    "{encoding: windows-1252}}, or write it as UTF-8: iconv -f WINDOWS-1252 -t UTF-8 FILE"
)


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


class OtherEncoding(UnreadableDataset):
    """A text file is in another encoding, or is no text."""

    def __init__(self, path: str, encoding: str) -> None:
        todo = (
            f"write it as UTF-8 (iconv -f {encoding} -t UTF-8 FILE)"
            if encoding.startswith("UTF")
            else "unpack it, or give it the name of what it is"
        )
        super().__init__(path, f"it is {encoding}, not UTF-8 text; {todo}")


class NotUtf8(UnreadableDataset):
    """A byte of a text file is no UTF-8."""

    def __init__(self, path: str, error: UnicodeDecodeError, line: int | None = None) -> None:
        content = bytes(error.object)
        before = content[max(0, error.start - 20) : error.start].decode(errors="replace")
        where = f" behind {before!r}" if before else ""
        reason = f"byte 0x{content[error.start]:02x}{where} is not UTF-8"
        super().__init__(path, f"{reason}; {TO_UTF8}", line=line)


class MissingColumns(DatasetError):
    """Event fields have no column in the file."""

    def __init__(self, path: str, missing: Sequence[str], columns: Collection[str]) -> None:
        which = "field" if len(missing) == 1 else "fields"
        super().__init__(
            f"{path}: no column for the event {which} {', '.join(missing)}; the file has "
            f"{_listed(columns)}; name the column in the pipeline file, for example "
            f"data: {{columns: {{COLUMN: {missing[0]}}}}}"
        )


class LabelError(DatasetError):
    """The true outcomes cannot be read from the file."""


class MissingLabel(LabelError):
    """The file has no such label column."""

    def __init__(self, path: str, label: str, columns: Collection[str]) -> None:
        super().__init__(
            f"{path}: no label column {label}; the file has {_listed(columns)}; "
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


class FeaturesNotServed(DatasetError):
    """A data set as served lacks features that the pipeline file has."""

    def __init__(self, path: str, names: Collection[str]) -> None:
        shown = ", ".join([*names][:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        super().__init__(
            f"{path} has no {shown}: what served had no such feature. `anabranch dataset "
            "--backfill` computes it as it would have been served"
        )
