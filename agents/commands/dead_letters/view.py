"""Dead letters and what became of them, for people and for scripts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from agents.commands.terminal import stderr, stdout
from topics.printable import printable_json, readable

if TYPE_CHECKING:
    from agents.redrive import DeadLetter, DeadLetterIndex, RedriveProgress, Selection, State

SHOWN = 200
"""Lines of `list`, unless more are asked for."""
_SHOWN_LEFT = 10
_LONGEST_KEY = 256
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))
_WHY_SKIPPED = {
    "healed": "have their decision already",
    "waiting": "are redriven already and have not ended (--again redrives them again)",
    "given up": "are given up: too many attempts (--attempts allows more)",
    "no original": "cannot be redriven: the original record is in no topic any more",
}


def described(letters: DeadLetterIndex, letter: DeadLetter, attempts: int) -> dict[str, Any]:
    """One line of `list`, without the event's content."""
    return {
        "place": letter.place,
        "event_id": letter.event_id,
        "key": _short(letter.key),
        "stage": letter.stage,
        "class": letter.error,
        "reason": letter.reason,
        "attempt": letter.attempt,
        "state": letters.state(letter, attempts),
        "waits_for": letters.waiting_for(letter) or None,
        "source": {"partition": letter.source.partition, "offset": letter.source.offset},
        "cut": letter.size or None,
        "age_s": round(time.time() - letter.written_ms / 1000, 1),
    }


def content(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter whole: the value as JSON where it is some, else as text."""
    return {
        "place": letter.place,
        "source": f"{letter.source.partition}@{letter.source.offset}",
        "attempt": letter.attempt,
        "stage": letter.stage,
        "class": letter.error,
        "reason": letter.reason,
        "original": letter.original or "below",
        **({"bytes": letter.size, "sha256": letter.digest} if letter.digest else {}),
        "key": None if letter.key is None else letter.key.decode(errors="replace"),
        "headers": {
            name: None if value is None else value.decode(errors="replace")
            for name, value in letter.headers
        },
        "value": readable(letter.value),
    }


def dumped(what: Any, *, pretty: bool = False) -> str:
    """As JSON, fit for a terminal."""
    import orjson

    return printable_json(orjson.dumps(what, option=orjson.OPT_INDENT_2 if pretty else 0))


def print_content(letter: DeadLetter) -> None:
    """What `show` shows."""
    about = content(letter)
    for name, value in about.items():
        if name not in ("headers", "value"):
            _line(name, value)
    for name, value in about["headers"].items():
        _line("header", f"{name}: {'null' if value is None else value}")
    typer.echo(dumped(about["value"], pretty=True))


def _line(name: str, value: object) -> None:
    stdout.print(f"{name:<9} {value}", highlight=False, soft_wrap=True)


def _short(key: bytes | None) -> str | None:
    """A key as text, with its beginning only if it is long: it may have megabytes."""
    if key is None or len(key) <= _LONGEST_KEY:
        return None if key is None else key.decode(errors="replace")
    return f"{key[:_LONGEST_KEY].decode(errors='replace')}… ({len(key):,} bytes)"


def write_lines(letters: DeadLetterIndex, chosen: Sequence[DeadLetter], attempts: int) -> None:
    """What `list --json` writes."""
    lines = (dumped(described(letters, letter, attempts)) + "\n" for letter in chosen)
    while some := list(islice(lines, 1000)):
        typer.echo("".join(some), nl=False)


def print_list(
    letters: DeadLetterIndex, chosen: Sequence[DeadLetter], limit: int | None, attempts: int
) -> None:
    """What `list` shows."""
    table = Table(box=None, pad_edge=False)
    for name in ("place", "event", "key", "stage", "class", "reason", "attempt", "state", "age"):
        table.add_column(name, justify="right" if name in ("attempt", "age") else "left")
    shown = chosen[: limit or SHOWN]
    for letter in shown:
        line = described(letters, letter, attempts)
        state = line["state"]
        if line["waits_for"]:
            state += f" for {line['waits_for']}"
        cells = (line["place"], line["event_id"], line["key"] or "-", line["stage"], line["class"],
                 line["reason"], str(line["attempt"]), state, _age(line["age_s"]))  # fmt: skip
        table.add_row(*cells)
    stdout.print(table)
    states = Counter(letters.state(letter, attempts) for letter in chosen)
    counts = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    stdout.print(f"{len(chosen):,} dead letters: {counts}" if chosen else "no dead letters")
    if (more := len(chosen) - len(shown)) > 0 and limit is None:
        stdout.print(f"{more:,} more are not shown: --limit shows more, --json all")


def _age(seconds: float) -> str:
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def print_skipped(skipped: Mapping[State, int]) -> None:
    """Which dead letters do not go because of their state."""
    for state, count in sorted(skipped.items()):
        stderr.print(f"{count:,} {_WHY_SKIPPED[state]}", highlight=False)


def print_left(left: Sequence[Mapping[str, str]]) -> None:
    """Which dead letters did not go though they were due, and why."""
    for letter in left[:_SHOWN_LEFT]:
        text = f"left: {letter['place']} ({letter['event_id'] or 'no id'}): {letter['why']}"
        stderr.print(text, highlight=False, soft_wrap=True)
    if (more := len(left) - _SHOWN_LEFT) > 0:
        stderr.print(f"left: {more:,} more", highlight=False)


def summed(
    selected: Sequence[Selection], progress: RedriveProgress | None, *,
    skipped: Mapping[State, int], edited: bool, dry_run: bool, not_sent: int,
) -> dict[str, Any]:  # fmt: skip
    """What `redrive` came to."""
    left = [
        {"place": letter.place, "event_id": letter.event_id, "why": why}
        for selection in selected
        for letter, why in selection.unfit
    ]
    by_end: Counter[str] = Counter()
    gone = 0
    if progress is not None:
        by_end, gone = Counter(progress.endings.values()), len(progress.sent)
        left += [
            {"place": f"{event.partition}@{event.letter}", "event_id": "", "why": why}
            for event, why in progress.refused
        ]
    going = sum(len(selection.ready) for selection in selected)
    return {
        "redriven": gone,
        "would_be_redriven": going if dry_run else 0,
        "edited": edited,
        "decided": by_end["decision"],
        "dead_again": by_end["dead-letter"],
        "waiting": gone - sum(by_end.values()),
        "not_sent": not_sent,
        "skipped": dict(skipped),
        "left": left,
    }


def print_summary(summary: Mapping[str, Any], *, waited: bool) -> None:
    """The last lines of `redrive`."""
    if summary["would_be_redriven"]:
        stdout.print(f"would redrive {summary['would_be_redriven']:,} dead letters")
    elif not summary["redriven"]:
        stdout.print("nothing to redrive" if not summary["not_sent"] else "nothing was redriven")
    elif not waited:
        stdout.print(f"{summary['redriven']:,} redriven; `dead-letters list` says how they end")
    else:
        stdout.print(
            f"{summary['redriven']:,} redriven: {summary['decided']:,} decided, "
            f"{summary['dead_again']:,} dead again, {summary['waiting']:,} still waiting"
        )
    if summary["not_sent"]:
        stdout.print(f"{summary['not_sent']:,} have not gone: the same command sends them")
