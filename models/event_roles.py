"""Which columns name an event, and say when it happened."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from models.column_inference import InferredColumn
from models.feature_choice import names_a_row
from models.label_inference import InferredLabel
from models.schema_errors import RoleUnusable
from models.splits import blocks
from models.training_errors import OneClass

_NOT_THE_EVENTS = re.compile(r"birth|dob|born|expir|due|valid|until|end")
_LEVELS = 2
"""Of models in the pipeline that is made: the decision maker reads the assessors."""


def find_id(found: Mapping[str, InferredColumn], wished: str | None) -> str | None:
    """The column that names the events: the wished one, or one that is called so and unique."""
    if wished is not None:
        return usable(found, wished, "id")
    for name, column in found.items():
        unique = column.distinct == len(column.values) and column.type in ("string", "integer")
        if unique and names_a_row(name):
            return name
    return None


def usable(found: Mapping[str, InferredColumn], name: str, option: str) -> str:
    """*name*, when that column can be the id or the key. Raises RoleUnusable."""
    column = found[name]
    if column.type not in ("string", "integer"):
        what = column.problem or f"holds values of the type {column.type}"
        raise RoleUnusable(option, name, f"{what}, not texts or whole numbers")
    if column.missing.any():
        raise RoleUnusable(option, name, f"has no value in {int(column.missing.sum())} rows")
    return name


def find_time(
    found: Mapping[str, InferredColumn], wished: str | None, label: InferredLabel,
    warnings: list[str],
) -> str | None:  # fmt: skip
    """The column with the event times: the wished one, or the only complete one that can be."""
    if wished is not None:
        column = found[wished]
        if column.type != "timestamp":
            what = column.problem or f"holds values of the type {column.type}"
            raise RoleUnusable("time", wished, f"{what}, not times in one format")
        if column.missing.any():
            raise RoleUnusable("time", wished, f"has no value in {int(column.missing.sum())} rows")
        return wished
    candidates = [
        name for name, column in found.items()
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
    order = np.argsort(found[name].values[label.known], kind="stable")
    try:
        blocks(len(order), _LEVELS).check(label.outcomes[label.known][order])
    except OneClass:
        warnings.append(
            f"{name} is not used as the event time: in its order, whole stretches of rows have "
            "one outcome only, so nothing could be learned from one stretch for the next"
        )
        return None
    return name
