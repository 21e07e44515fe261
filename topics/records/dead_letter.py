"""Dead letters: the original record, and in headers what failed, where and why.

Also how source records end, read off the headers of decisions and dead letters. An event's ordinary
end is its first attempt's. When its dead letter is redriven, it gets a later end, out of the order
of the source: whoever follows the stream by its ends leaves those out.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol

from topics.kafka import Headers, Record
from topics.records import decision
from topics.records.stage_batch import Failure

PREFIX = "x-error-"

BYTES = "original-bytes"
DIGEST = "original-sha256"
"""Headers, behind the prefix, of a dead letter whose original is not whole in it."""

Original = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]
"""Key, value and headers of a source record."""

MAX_ORIGINAL_BYTES = 15_000_000
"""The topic takes 16 MiB a record; compression lets more than that onto the source topic."""

_LENGTH = 5
"""Bytes that say how long a field of a record is."""


def dead_letter(
    failure: Failure,
    source: tuple[str, int, int],
    original: Original | None,
    now_ms: int,
    *,
    published_ms: int,
    attempt: int = 1,
) -> Record:
    """The dead letter of a source record; *original* is its key, value and headers.

    Without *original* (the source topic no longer holds the record) the value is null and
    a header says so; so it is with one that is too large for any topic, see `cut_dead_letter`.
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
    key, value, headers = original or (None, None, ())
    kept = [(name, content) for name, content in headers if not name.startswith(PREFIX)]
    if original is None:
        about["original"] = "no longer on the source topic"
    elif (size := _size(key, value, kept)) > MAX_ORIGINAL_BYTES:
        remark = f"{size} bytes are too many to repeat; they are at the coordinates"
        about |= _cut_about(key, value, kept, about["reason"], remark)
        key, value, kept = None, None, []
    added: Headers = [(PREFIX + name, text.encode()) for name, text in about.items()]
    return Record(key, value, now_ms, [*kept, *added])


def cut_dead_letter(letter: Record, most: int) -> Record:
    """The same dead letter in *most* bytes, if it can be: less of its value, headers and key.

    What is missing is at the coordinates; headers of ours say how much there is, and its digest.
    """
    ours = {name.removeprefix(PREFIX): (content or b"").decode(errors="replace")
            for name, content in letter.headers if name.startswith(PREFIX)}  # fmt: skip
    theirs = [header for header in letter.headers if not header[0].startswith(PREFIX)]
    whole = (letter.key, letter.value, theirs)
    if DIGEST in ours:  # it was cut before, and says what the whole one was
        about = ours
    else:
        remark = f"cut: of {_size(*whole):,} bytes only a part is here; all are at the coordinates"
        about = ours | _cut_about(*whole, ours["reason"], remark)
    headers: Headers = [(PREFIX + name, text.encode()) for name, text in about.items()]
    left = most - Record(None, None, 0, headers).size - 2 * _LENGTH
    key = letter.key and letter.key[: max(0, left // 4)]
    left -= len(key or b"")
    kept: Headers = []
    for name, content in theirs:
        size = len(name.encode()) + len(content or b"") + 2 * _LENGTH
        if size <= left // 2:
            kept.append((name, content))
            left -= size
    value = letter.value and letter.value[: max(0, left)]
    return Record(key, value, letter.timestamp_ms, [*kept, *headers])


def _cut_about(
    key: bytes | None, value: bytes | None, headers: Headers, reason: str, remark: str
) -> dict[str, str]:
    """What a dead letter says of an original that is not whole in it."""
    return {
        "reason": f"{reason} (the original was cut: {_size(key, value, headers):,} bytes)",
        "original": remark,
        BYTES: str(_size(key, value, headers)),
        DIGEST: original_digest(key, value, headers),
    }


def original_digest(
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
) -> str:  # fmt: skip
    """SHA-256 of an original: key, value, then each header's name and content, in order.

    Each behind its length in 8 bytes, big-endian; null has the length 2^64 - 1. Headers of a
    dead letter's own are left out.
    """
    digest = sha256()
    theirs = [header for header in headers if not header[0].startswith(PREFIX)]
    texts = [text for name, content in theirs for text in (name.encode(), content)]
    for content in (key, value, *texts):
        digest.update((2**64 - 1 if content is None else len(content)).to_bytes(8, "big"))
        digest.update(content or b"")
    return digest.hexdigest()


def _size(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> int:
    in_headers = sum(len(name.encode()) + len(content or b"") for name, content in headers)
    return len(key or b"") + len(value or b"") + in_headers


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


def error_of_letter(headers: Sequence[tuple[str, bytes]]) -> str:
    """The class of error that a dead letter is for; empty where it says none."""
    return (dict(headers).get(PREFIX + "class") or b"").decode(errors="replace")


# -- how source records end


class RecordWithHeaders(Protocol):
    """The part of a Kafka record that says what it is about."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Names and values, in order."""


def attempt_at(record: RecordWithHeaders, *, is_decision: bool) -> tuple[int, int]:
    """The source offset that a decision or a dead letter is about, and which attempt it ended.

    Raises KeyError or ValueError when the record is none.
    """
    if is_decision:
        return decision.source_of(record.headers)[2], decision.attempt_of(record.headers)
    return source_of(record.headers)[2], attempt_of(record.headers)


def decided_offset(record: RecordWithHeaders) -> int | None:
    """The source offset that a decision is about; None when it is of a redriven event.

    Raises KeyError or ValueError when the record is not a decision.
    """
    offset, attempt = attempt_at(record, is_decision=True)
    return offset if attempt == 1 else None


def buried_offset(record: RecordWithHeaders) -> int | None:
    """The source offset that a dead letter is about; None when it is of a redriven event.

    Raises KeyError or ValueError when the record is not a dead letter.
    """
    offset, attempt = attempt_at(record, is_decision=False)
    return offset if attempt == 1 else None
