"""Which columns name an event, and say when it happened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from shlex import quote

import numpy as np

from models.errors import OneClass
from models.schema.errors import RoleUnusable
from models.schema.identifiers import is_surely_identifier, names_a_row
from models.schema.inferred_columns import InferredColumn
from models.schema.label import InferredLabel
from models.training.splits import blocks

_NOT_THE_EVENTS = re.compile(r"birth|dob|born|expir|due|valid|until|end")
_NEARLY_ALL = 0.9
_LEVELS = 2
"""Of models in the pipeline that is made: the decision maker reads the assessors."""
_SORTED = (
    "sorts the label: in its order, whole stretches of rows have one outcome only, so that "
    "nothing can be learned from one stretch for the next"
)


def find_id(
    columns: Mapping[str, InferredColumn], wished: str | None, warnings: list[str]
) -> str | None:
    """The column that names the events: the wished one, or one that is called so and unique.

    Where there is none, *warnings* get which one nearly is.
    """
    if wished is not None:
        return usable(columns, wished, "id")
    for name, column in columns.items():
        unique = column.distinct == len(column.values) and column.type in ("string", "integer")
        if unique and names_a_row(name):
            return name
    warnings += filter(None, (_nearly_an_id(column) for column in columns.values()))
    return None


def _nearly_an_id(column: InferredColumn) -> str:
    """What keeps a column from naming the rows, where it names nearly all; "" where it does not."""
    rows, missing = len(column.values), int(column.missing.sum())
    if column.type not in ("string", "integer") or column.distinct < _NEARLY_ALL * rows:
        return ""
    repeated = rows - missing - column.distinct
    name = column.name
    if repeated or missing:
        if not names_a_row(name):
            return ""
        faults = [f"{repeated:,} rows repeat a value"] * (repeated > 0)
        faults += [f"{missing:,} rows have none"] * (missing > 0)
        advice = (
            "give each row one"
            if missing
            else f"--id={quote(name)} takes it as the id all the same"
        )
        return f"{name} is nearly an id, but of {rows:,} rows {' and '.join(faults)}; {advice}"
    if column.type == "integer" and not column.is_identifier and not is_surely_identifier(name):
        return ""  # amounts may all differ too
    return f"{name} is different in each row: --id={quote(name)}, if it names them"


def usable(columns: Mapping[str, InferredColumn], name: str, option: str) -> str:
    """*name*, when that column can be the id or the key. Raises RoleUnusable."""
    column = columns[name]
    if column.type not in ("string", "integer"):
        what = column.problem or f"holds values of the type {column.type}"
        raise RoleUnusable(option, name, f"{what}, not texts or whole numbers")
    if column.missing.any():
        raise RoleUnusable(option, name, f"has no value in {int(column.missing.sum())} rows")
    return name


def find_time(
    columns: Mapping[str, InferredColumn], wished: str | None, label: InferredLabel,
    warnings: list[str],
) -> str | None:  # fmt: skip
    """The column with the event times: the wished one, or the only complete one that can be."""
    if wished is not None:
        _check_time(columns[wished], label)
        return wished
    candidates = [
        name for name, column in columns.items()
        if column.type == "timestamp" and not column.missing.any()
        and not _NOT_THE_EVENTS.search(name.casefold())
    ]  # fmt: skip
    if len(candidates) != 1:
        if candidates:
            warnings.append(
                f"{', '.join(candidates)} could each be the event time: choose with --time; "
                "until then it is the time of publishing, and rows are dealt out at random"
            )
        return None
    (name,) = candidates
    if _sorts_the_label(columns[name], label):
        warnings.append(f"{name} is not used as the event time: it {_SORTED}")
        return None
    return name


def _check_time(column: InferredColumn, label: InferredLabel) -> None:
    """Raise RoleUnusable for a wished time that cannot be one."""
    if column.type != "timestamp":
        what = column.problem or f"holds values of the type {column.type}"
        raise RoleUnusable("time", column.name, f"{what}, not times in one format")
    if column.missing.any():
        gaps = int(column.missing.sum())
        raise RoleUnusable("time", column.name, f"has no value in {gaps} rows")
    if _sorts_the_label(column, label):
        raise RoleUnusable("time", column.name, _SORTED)


def _sorts_the_label(times: InferredColumn, label: InferredLabel) -> bool:
    """Whether a block of the training, which is in time order, would have one outcome only."""
    order = np.argsort(times.values[label.known], kind="stable")
    try:
        blocks(len(order), _LEVELS).check(label.outcomes[label.known][order])
    except OneClass:
        return True
    return False
