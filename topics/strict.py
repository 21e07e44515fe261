"""What every part of a pipeline file is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]


def _scalar(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"must be a boolean, a number, a string or null, not a {type(value).__name__}")


Scalar = Annotated[bool | int | float | str | None, BeforeValidator(_scalar)]


class Strict(BaseModel):
    """A part of a pipeline file: frozen, and a field it does not know is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )
