"""Changing a pipeline file: whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from topics.errors import AnabranchError


class FileNotWritable(AnabranchError):
    """The pipeline file cannot be replaced."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"{path} is left as it was: {cause}")


def rewrite(path: Path, edited: Callable[[str], str]) -> None:
    """Replace the file by what *edited* makes of its text, with the same permissions.

    Raises FileNotWritable, and whatever *edited* raises; the file is then as it was.
    """
    aside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        aside.write_text(edited(path.read_text(encoding="utf-8")), encoding="utf-8")
        aside.chmod(path.stat().st_mode)
        aside.replace(path)
    except OSError as error:
        raise FileNotWritable(path, error.strerror or str(error)) from error
    finally:
        aside.unlink(missing_ok=True)
