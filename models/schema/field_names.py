"""Names of event fields for the columns of a file."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from topics.pipeline import EVENTS, OUTCOMES


class FieldNames:
    """Event field names for columns: short, readable, each used once.

    None is `events` or `outcomes`: a feature `of:` these is of what has come, not of a field.
    """

    def __init__(self, columns: Iterable[str] = ()) -> None:
        self._taken = {EVENTS, OUTCOMES}
        self._of = {name: self.new(slug(name) or f"column_{place}")
                    for place, name in enumerate(columns, 1)}  # fmt: skip

    def of(self, column: str) -> str:
        """The field of a column."""
        return self._of[column]

    def new(self, wanted: str) -> str:
        """*wanted*, or with a number behind it when that is taken."""
        name, number = wanted, 2
        while name in self._taken:
            name, number = f"{wanted}_{number}", number + 1
        self._taken.add(name)
        return name


def slug(name: str) -> str:
    """The name in lower case ASCII letters, digits and underscores; "" when none is left.

    >>> slug("Montant payé (€)"), slug("2nd visit"), slug("客户")
    ('montant_paye', 'n2nd_visit', '')
    """
    spaced = re.sub(r"([a-z])([A-Z])", r"\1_\2", name)
    plain = unicodedata.normalize("NFKD", spaced).encode("ascii", "ignore").decode().casefold()
    made = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:40].rstrip("_")
    return f"n{made}" if made[:1].isdigit() else made
