"""What commands show in a terminal: output, progress bars, the log.

Much of what is shown came from outside: it is plain characters, and nothing that a terminal obeys.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

from topics.printable import printable, printable_json

if TYPE_CHECKING:
    from rich.progress import Progress

BAR_NAME_WIDTH = 24


class Terminal(Console):
    """Where commands print: a string, also in a table's cell, is one line and plain characters.

    No markup: brackets are brackets.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """The text of a string. A `Text` is printed as it is: clean what is put into one."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})


stdout = Terminal()
stderr = Terminal(stderr=True)


def print_json(document: str | bytes) -> None:
    """Print a JSON document on stdout; what a terminal would obey is escaped in it."""
    typer.echo(printable_json(document))


def counting_bars(*, name_width: int = BAR_NAME_WIDTH, disable: bool = False) -> Progress:
    """Bars on stderr, each with a name, how many of how many are done, and for how long."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn(f"{{task.description:<{name_width}}}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), console=stderr, disable=disable,
    )  # fmt: skip


def bar_of(bars: Progress, name: str) -> Callable[[int, int], None]:
    """A bar that shows how many of how many are done; seen once anything is."""
    bar = bars.add_task(name, visible=False)
    return lambda done, total: bars.update(bar, completed=done, total=total, visible=True)


def percent_bars(bars: Progress) -> Callable[[str, float], None]:
    """What shows how far each of several jobs is: it is told a name and a fraction of 1."""
    tasks = {}

    def show(name: str, fraction: float) -> None:
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=100)
        bars.update(tasks[name], completed=round(100 * fraction))

    return show


class PlainFormatter(logging.Formatter):
    """A record is one line, whatever it quotes; a traceback's lines are behind it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # its interface
        """The line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  # its interface
        """The traceback."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def configure_logging(*, verbose: bool) -> None:
    """Log to stderr: warnings of ours, everything with *verbose*."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(
        handlers=[handler], level=logging.INFO if verbose else logging.WARNING
    )  # fmt: skip
    if not verbose:
        # Clients log each failed connection attempt; ours say it once, with what to do.
        for noisy in ("aiokafka", "faust", "mode", "asyncio"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
