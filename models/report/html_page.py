"""One self-contained HTML page of a template: nothing in it is loaded from elsewhere."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from topics.errors import MissingExtra

_STYLE = Path(__file__).with_name("page.css")


def check_can_render() -> None:
    """Raise MissingExtra when what draws the page is not installed."""
    for needed in ("jinja2", "matplotlib"):
        if find_spec(needed) is None:
            raise MissingExtra("a report page", "report")


def rendered(template: Path, **values: Any) -> str:
    """A page of its *template*, in the look that all pages have. Raises MissingExtra."""
    check_can_render()
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(figure=_figure, signed=_signed, percent=_percent, loss=_loss)
    css = Markup(_STYLE.read_text(encoding="utf-8"))  # noqa: S704 - ours
    text = template.read_text(encoding="utf-8")
    return environment.from_string(text).render(css=css, **values)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.5f}"


def _signed(value: float, digits: int = 4) -> str:
    return f"{value:+z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"
