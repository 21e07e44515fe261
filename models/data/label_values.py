"""Outcomes: what the values of a label column are called, however a file writes them."""

from __future__ import annotations

from models.data.columns import binary


def outcome_name(value: object) -> str | None:
    """One name for every way to write an outcome; None for a missing one.

    >>> [outcome_name(value) for value in (1, "Yes", "true", "Churned ", "2.0", "")]
    ['true', 'true', 'true', 'churned', '2', None]
    """
    if value is None or value == "" or value != value:  # noqa: PLR0124  # NaN is a missing one
        return None
    known = binary(value)
    if known is None and (number := _number(value)) is not None:
        known = binary(number)
        if known is None:
            return f"{number:g}"
    if known is not None:
        return "true" if known else "false"
    return str(value).strip().casefold() or None


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None
