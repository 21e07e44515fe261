"""The program of `deploy/consuming.md`, as it stands on that page.

It shares no code with what it reads from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "deploy" / "consuming.md"


def program() -> str:
    """The page's blocks of Python, one after the other."""
    return "\n\n".join(
        re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    )


def loaded() -> dict[str, Any]:
    """What the program defines; it does not run."""
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(program(), PAGE.name, "exec"), names)  # noqa: S102  # it is our own page
    return names
