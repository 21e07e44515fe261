"""The `data:` part of a pipeline file: how files made by others become events and labels."""

from __future__ import annotations

from pydantic import Field

from topics.pipeline.field_types import Scalar, Strict


class DataMapping(Strict):
    """How the columns of a data file map onto event fields and the label."""

    label: str | None = None
    """Column with the true outcome, 0 or 1 (or false/true, no/yes). Never published."""
    positive: Scalar = None
    """The label's value that counts as 1; every other value is 0, a row without one is not
    trained on."""
    columns: dict[str, str] = Field(default_factory=dict)
    """File column → event field; a column with a field's own name needs no entry."""
    missing_values: list[str] = Field(default_factory=list)
    """Text that stands for no value, beside the empty one: `NA`."""
    time_formats: dict[str, str] = Field(default_factory=dict)
    """Timestamp field → how the file writes it, where that is not ISO 8601: `epoch_s`,
    `epoch_ms`, or a pattern such as `%d/%m/%Y` (UTC)."""
    row_number: str | None = None
    """Event field that gets the row's number, from 1, for files without an id column."""
    published_at: str | None = None
    """Event field that gets the time of publishing, for files without event times. Training
    then deals the rows out at random, the same share of positives to every block."""

    @property
    def generated(self) -> list[str]:
        """The fields that no column holds."""
        return [name for name in (self.row_number, self.published_at) if name is not None]
