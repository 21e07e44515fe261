"""Why no pipeline can be made of a data file.

AnabranchError
└── SchemaError
    ├── NoSuchColumn      an option names a column that the file does not have
    ├── LabelUnusable     the label does not have exactly two values, or too few rows of one
    ├── RoleUnusable      a column cannot be the id, the key or the time
    └── NoFeature         nothing in the file says anything about the label
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from topics.errors import AnabranchError


class SchemaError(AnabranchError):
    """A data file whose columns make no pipeline; the message says what to change."""


class NoSuchColumn(SchemaError):
    """An option names a column that the file does not have."""

    def __init__(self, option: str, name: str, columns: Sequence[str]) -> None:
        folded = {column.casefold(): column for column in columns}
        close = get_close_matches(name.casefold(), list(folded), n=3)
        meant = " or ".join(repr(folded[each]) for each in close)
        listed = ", ".join(columns[:30]) + (", …" if len(columns) > 30 else "")
        hint = f"did you mean {meant}?" if close else f"the columns are {listed}"
        if len(columns) == 1 and (others := [each for each in ";\t|" if each in columns[0]]):
            hint = (
                f"its only column is {listed!r}: separate columns by commas, not by {others[0]!r}"
            )
        super().__init__(f"--{option}: the file has no column {name!r}; {hint}")


class LabelUnusable(SchemaError):
    """The label does not tell two outcomes apart."""

    def __init__(self, label: str, problem: str, advice: str) -> None:
        super().__init__(f"label column {label!r} {problem}; {advice}")


class RoleUnusable(SchemaError):
    """A column cannot be the event's id, key or time."""

    def __init__(self, option: str, column: str, problem: str) -> None:
        super().__init__(
            f"--{option}: column {column!r} {problem}; name another, or leave --{option} out"
        )


class NoFeature(SchemaError):
    """Nothing in the file can be learned from."""

    def __init__(self, label: str) -> None:
        super().__init__(
            f"no column beside the label {label!r} makes a feature: each is an identifier, "
            "a constant, a text with too many values, or empty; add a number, a category or a date"
        )
