"""Which columns are called like identifiers, by the words of their names."""

from __future__ import annotations

import re

_NAMES_A_ROW = re.compile(r"(.*[_\W])?(id|uid|uuid|guid|key|nr|no|number|index|row)")
_IDENTIFIER = re.compile(rf"{_NAMES_A_ROW.pattern}|(.*[_\W])?(ids|code|zip|phone)")
_SURELY = re.compile(r"(.*[_\W])?(ids?|uids?|uuids?|guids?)")


def names_a_row(column: str) -> bool:
    """Whether a column is called like what names a row: `customer_id`, `orderNo`, or nothing."""
    words = _words(column)
    return not words or words.startswith("unnamed") or bool(_NAMES_A_ROW.fullmatch(words))


def is_called_identifier(column: str) -> bool:
    """Whether whole numbers of that name are names rather than amounts: `zip`, `product code`."""
    return bool(_IDENTIFIER.fullmatch(_words(column)))


def is_surely_identifier(column: str) -> bool:
    """Whether whatever has that name is one: `store_id`."""
    return bool(_SURELY.fullmatch(_words(column)))


def _words(name: str) -> str:
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).strip().casefold()
