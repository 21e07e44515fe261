"""Mending the values of dead letters with a jq program."""

from __future__ import annotations

from typing import Any

import orjson

from topics.errors import AnabranchError, MissingExtra


class BadFilter(AnabranchError):
    """The program of --edit is not jq."""

    def __init__(self, program: str, cause: str) -> None:
        super().__init__(f"--edit {program!r} is no jq program: {cause.strip().splitlines()[0]}")


class EditFailed(AnabranchError):
    """The filter makes no event of one value."""


class Edit:
    """A compiled jq program. Raises MissingExtra, or BadFilter."""

    def __init__(self, program: str) -> None:
        try:
            import jq
        except ImportError as exc:
            raise MissingExtra("--edit", "redrive") from exc
        try:
            self._program: Any = jq.compile(program)
        except ValueError as exc:
            raise BadFilter(program, str(exc)) from exc

    def __call__(self, value: bytes | None) -> bytes:
        """The edited value; EditFailed unless it is JSON and comes out as exactly one object."""
        try:
            made = self._program.input_text((value or b"").decode()).all()
        except ValueError as exc:  # UnicodeDecodeError is one too
            raise EditFailed(f"the filter fails: {exc}") from exc
        if len(made) != 1 or not isinstance(made[0], dict):
            kinds = ", ".join(type(it).__name__ for it in made) or "nothing"
            raise EditFailed(f"the filter yields {kinds}, not one object")
        return orjson.dumps(made[0])
