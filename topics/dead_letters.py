"""Dead letters: the original record, and in headers what failed, where and why."""

from __future__ import annotations

from collections.abc import Sequence

from topics.batches import Headers, Record
from topics.stage_batch import Failure

PREFIX = "x-error-"

MAX_ORIGINAL_BYTES = 15_000_000
"""The topic takes 16 MiB a record; compression lets more than that onto the source topic."""


def dead_letter(
    failure: Failure,
    source: tuple[str, int, int],
    original: tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]] | None,
    now_ms: int,
    *,
    published_ms: int,
    attempt: int = 1,
) -> Record:
    """The dead letter of a source record; *original* is its key, value and headers.

    Without *original* (the source topic no longer holds the record) the value is null and
    a header says so.
    """
    topic, partition, offset = source
    about = {
        "stage": failure.component,
        "class": failure.error,
        "reason": failure.reason,
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "published-ms": str(published_ms),
        "attempt": str(attempt),
    }
    if original is None:
        about["original"] = "no longer on the source topic"
    elif (size := _size(*original)) > MAX_ORIGINAL_BYTES:
        about["original"] = f"{size} bytes are too many to repeat; they are at the coordinates"
        original = None
    key, value, headers = original or (None, None, ())
    kept = [(name, content) for name, content in headers if not name.startswith(PREFIX)]
    added: Headers = [(PREFIX + name, text.encode()) for name, text in about.items()]
    return Record(key, value, now_ms, [*kept, *added])


def _size(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    named = sum(len(name.encode()) + len(content or b"") for name, content in headers)
    return len(key or b"") + len(value or b"") + named


def attempt_of(headers: Sequence[tuple[str, bytes]]) -> int:
    """Which attempt at the event ended in this dead letter: 1, or more when it was redriven.

    Raises KeyError or ValueError when the headers are not those of a dead letter.
    """
    return int(dict(headers)[PREFIX + "attempt"] or b"")


def source_of(headers: Sequence[tuple[str, bytes]]) -> tuple[str, int, int]:
    """Topic, partition and offset of the source record that a dead letter is about.

    Raises KeyError or ValueError when the headers are not those of a dead letter.
    """
    about = {name: value or b"" for name, value in headers}  # a header's value may be null
    return (
        about[PREFIX + "topic"].decode(),
        int(about[PREFIX + "partition"]),
        int(about[PREFIX + "offset"]),
    )
