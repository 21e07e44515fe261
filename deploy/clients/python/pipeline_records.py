"""What both Python clients know of a pipeline's records, and where they keep its decisions."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SCHEMA = 1
"""A decision of a later schema means something else: stop, and read the changelog."""

Headers = Iterable[tuple[str, bytes | None]]


class NewerSchema(Exception):
    """A decision that this client is too old for."""


def arguments() -> argparse.Namespace:
    """The command line of both clients."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--broker", default="localhost:9092")
    parser.add_argument("--pipeline", required=True)
    commands = parser.add_subparsers(dest="command", required=True)
    ask = commands.add_parser("ask", help="publish events from stdin, print how each ended")
    ask.add_argument("--key", required=True, help="the event's field that is the record's key")
    ask.add_argument("--deadline-s", type=float, default=30.0)
    follow = commands.add_parser("follow", help="write each decision into a file, once")
    follow.add_argument("--journal", type=Path, required=True)
    follow.add_argument("--idle-s", type=float, help="end once nothing has come for so long")
    return parser.parse_args()


def end_of(topic: str, headers: Headers | None, value: bytes | None) -> tuple[str, Any] | None:
    """Which event a record ends, as TOPIC/PARTITION/OFFSET, and how; None if it ends none.

    Raises NewerSchema.
    """
    about = {name: (content or b"").decode(errors="replace") for name, content in headers or ()}
    if topic.endswith(".dead-letters"):
        place = [about.get(f"x-error-{name}", "") for name in ("topic", "partition", "offset")]
        told = ("stage", "class", "reason", "attempt")
        letter = {name: about.get(f"x-error-{name}", "") for name in told}
        return ("/".join(place), {"dead_letter": letter}) if all(place) else None
    if value is None or about.get("ce_type") != "anabranch.decision":
        return None
    decision = json.loads(value)
    if decision.get("schema", 0) > SCHEMA:
        raise NewerSchema(f"{topic}: a decision of schema {decision['schema']}")
    attempt = int(about.get("x-redrive-attempt", "1"))
    return about["ce_id"], {"attempt": attempt, "decision": decision}


def asked(lines: Iterable[str], key: str) -> list[tuple[bytes, bytes]]:
    """Key and value of the record of each event, as the pipeline wants them."""
    return [
        (str(json.loads(line)[key]).encode(), line.strip().encode())
        for line in lines
        if line.strip()
    ]


def told(sources: Iterable[str | None], ends: dict[str, Any]) -> int:
    """Print how each event ended, in order; the exit code, 0 if all are decided."""
    code = 0
    for source in sources:
        unconfirmed = {"error": "not confirmed: it may be published all the same"}
        pending = {"error": "no decision yet: it is published, and will be decided"}
        end = unconfirmed if source is None else ends.get(source, pending)
        print(json.dumps({"source": source, **end}))
        code = code if "decision" in end else 1
    return code


class Journal:
    """A file of decisions, each event once; it also says how far each partition is read.

    Both stand in one line, which is there or not. So after a crash nothing is lost, and what is
    read again is known. One process writes it.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b")
        self._file.seek(0)
        self._events: set[str] = set()
        self.next: dict[int, int] = {}
        """Partition → the offset to go on at."""
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            entry = json.loads(line)
            self._count(entry)
            whole += len(line)
        self._file.truncate(whole)

    def add(self, partition: int, offset: int, end: Any) -> None:
        """Take in a decision, unless its event has one: redriven, it is the same event."""
        decision = end["decision"]
        event = decision.get("origin") or decision["source"]
        entry = {
            "event": f"{event['topic']}/{event['partition']}/{event['offset']}",
            "at": [partition, offset],
            "attempt": end["attempt"],
            **{name: decision[name] for name in ("event_id", "decision", "score", "degraded")},
        }
        if entry["event"] not in self._events:
            self._count(entry)
            self._file.write(json.dumps(entry).encode() + b"\n")

    def flush(self) -> None:
        """Return once everything is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def _count(self, entry: Any) -> None:
        partition, offset = entry["at"]
        self._events.add(entry["event"])
        self.next[partition] = offset + 1
