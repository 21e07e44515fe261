"""Whether what a peer has written is right: before that is known, its time counts for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson


class Output(Protocol):
    """The part of a Kafka record that is looked at."""

    @property
    def key(self) -> bytes | None:
        """The event's."""

    @property
    def value(self) -> bytes | None:
        """What the peer says."""


class Wrong(Exception):
    """A peer's output is not what it has to be; the message is the first difference."""


class Checker(Protocol):
    """Is shown all outputs of a run, some at a time."""

    def look(self, outputs: Sequence[Output]) -> list[int]:
        """Their events' numbers; Wrong for the first output that is wrong."""


def differs(event: object, what: str, expected: object, found: object) -> Wrong:
    """The difference, in words."""
    return Wrong(f"{event}: {what} is {short(found)}, not {short(expected)}")


def short(value: object) -> str:
    """The value as a message has room for it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def parsed(output: Output) -> dict[str, Any]:
    """The output's JSON object; Wrong when it is none."""
    try:
        content = orjson.loads(output.value or b"")
    except orjson.JSONDecodeError as exc:
        raise Wrong(f"{short(output.value)}: not JSON: {exc}") from exc
    if not isinstance(content, dict):
        raise Wrong(f"{short(output.value)}: not a JSON object")
    return content


@dataclass(slots=True)
class KeyCheck:
    """For pipelines whose scores are no matter: which event an output is of, and no more."""

    def look(self, outputs: Sequence[Output]) -> list[int]:
        """The events' numbers, from keys like tx-00000017."""
        return [int((output.key or b"").rpartition(b"-")[2]) for output in outputs]


@dataclass(slots=True)
class Tally:
    """How often each of the events that were published has an output."""

    wanted: Mapping[int, int]
    """Event → how often it was published."""
    seen: dict[int, int] = field(default_factory=dict)

    def add(self, numbers: Sequence[int]) -> list[bool]:
        """Count outputs; which of them were still wanted."""
        wanted = []
        for number in numbers:
            times = self.seen[number] = self.seen.get(number, 0) + 1
            wanted.append(times <= self.wanted.get(number, 0))
        return wanted

    def is_complete(self) -> bool:
        """Every event has its outputs."""
        return all(self.seen.get(number, 0) >= times for number, times in self.wanted.items())

    def duplicates(self) -> int:
        """Outputs beyond one for each event. Raises Wrong when an event has none."""
        seen, wanted = self.seen, self.wanted
        lost = [number for number, times in wanted.items() if seen.get(number, 0) < times]
        if lost:
            raise Wrong(
                f"{len(lost)} of {len(wanted)} events have too few outputs, the first is event "
                f"{lost[0]}: published {wanted[lost[0]]} times, {seen.get(lost[0], 0)} outputs"
            )
        return sum(seen.values()) - sum(wanted.values())
