"""Decision records made again from recorded stage outputs, byte by byte.

Most of a block are by what decided the rows before them, with every stage: these are made at once,
and compared as bytes. Of the others it is read what they name and lack, and they are made so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import orjson
from aiokafka.structs import ConsumerRecord
from pydantic import ValidationError

from agents.join import JoinedRows, StageRows
from agents.replay.errors import PinGone
from agents.replay.pinned_versions import PinnedVersions, provenance_of
from agents.weigh import DecisionRule
from topics.kafka import Record
from topics.records import Ints, Provenance, Rows, attempt_of

_RECORD = "the record"


class DecisionDifference(NamedTuple):
    """A decision that is made otherwise now."""

    row: int
    field: str
    recorded: str
    recomputed: str


class _Named(NamedTuple):
    """What rows have to have in common to be decided at once."""

    weights: int
    policy: str
    provenance: Provenance | None
    is_late: bool
    unanswered: tuple[tuple[str, str], ...]
    """Stages that had not answered, and why."""
    attempt: int


@dataclass(slots=True)
class DecidedRows:
    """What became of the decisions of a block."""

    provenance: dict[int, Provenance | None]
    """Row → what has decided it, besides models."""
    differences: list[DecisionDifference]
    """By row."""


class DecisionReplay:
    """Makes the decisions of one partition again, block after block."""

    def __init__(self, pins: PinnedVersions) -> None:
        self._pins = pins
        self._last: _Named | None = None
        """What has decided the last row that had every stage."""

    def decide(
        self, partition: int, rows: Rows, stages: Mapping[str, StageRows],
        records: Mapping[int, ConsumerRecord],
    ) -> DecidedRows:  # fmt: skip
        """Make the decisions *records*, by row, again; *rows* (N) and *stages* are as recorded."""
        result = DecidedRows({}, [])
        left = dict(records)
        if self._last is None:
            self._last = next(self._names(left), None)
        if self._last is not None and left:
            usual = self._last
            made = self._made(partition, rows, stages, usual, _decision_times(left))
            if are_same([left[row] for row in made], [*made.values()]):
                same = [*made]
            else:
                same = [row for row, record in made.items() if is_same(left[row], record)]
            result.provenance |= dict.fromkeys(same, usual.provenance)
            for row in same:
                del left[row]
        if left:
            self._one_by_one(partition, rows, stages, left, result)
        result.differences.sort()
        return result

    def _names(self, records: Mapping[int, ConsumerRecord]) -> Iterator[_Named]:
        for record in records.values():
            try:
                named = _named(fields_of(record), record)
            except (ValueError, KeyError, TypeError):
                continue
            if not (named.is_late or named.unanswered or named.attempt > 1):
                yield named

    def _one_by_one(
        self, partition: int, rows: Rows, stages: Mapping[str, StageRows],
        records: Mapping[int, ConsumerRecord], result: DecidedRows,
    ) -> None:  # fmt: skip
        """By what each record says of itself."""
        alike: dict[_Named, dict[int, int]] = defaultdict(dict)
        for row, record in records.items():
            try:
                fields = fields_of(record)
                alike[_named(fields, record)][row] = _milliseconds(fields["decided_at"])
            except (ValueError, KeyError, TypeError, OverflowError) as exc:
                why = f"no decision: {exc}"[:200]
                result.differences.append(DecisionDifference(row, _RECORD, why, "a decision"))
        for named, times in alike.items():
            made = self._made(partition, rows, stages, named, times)
            for row, record in made.items():
                result.provenance[row] = named.provenance
                if not is_same(records[row], record):
                    said = first_difference(records[row], record)
                    result.differences.append(DecisionDifference(row, *said))
            if not (named.is_late or named.unanswered or named.attempt > 1):
                self._last = named

    def _made(
        self, partition: int, rows: Rows, stages: Mapping[str, StageRows], named: _Named,
        times_ms: Mapping[int, int],
    ) -> dict[int, Record]:  # fmt: skip
        """The records of some rows, each made at its time; none of what cannot be decided."""
        rule = self._pins.rule(named.weights, named.policy, named.provenance)
        file = self._pins.file(named.provenance)
        inputs = file.pipeline.weighting.inputs
        if unknown := [name for name in inputs if name not in stages]:
            raise PinGone(f"component {unknown[0]}", str(self._pins.given.path))
        weighed = {name: stages[name] for name in inputs}
        return made_records(rule, partition, rows, weighed, named, times_ms)


def made_records(
    rule: DecisionRule, partition: int, rows: Rows, stages: Mapping[str, StageRows],
    named: _Named, times_ms: Mapping[int, int],
) -> dict[int, Record]:  # fmt: skip
    """By *rule*, with the stages that *named* had."""
    unanswered = dict(named.unanswered)
    weighed = {
        name: _without_answer(stage, unanswered[name]) if name in unanswered else stage
        for name, stage in stages.items()
    }
    overdue_to = int(rows.offsets[-1]) if named.is_late else -1
    joined = JoinedRows(rows, weighed, {}, 0, 0, overdue_to)
    scores = rule.scorer.score(joined)
    wanted: Ints = np.array(sorted(times_ms), np.int64)
    wanted = wanted[scores.decidable[wanted]]
    now_ms = np.zeros(len(rows), np.int64)
    now_ms[[*times_ms]] = [*times_ms.values()]
    taken = rule.decisions.taken(partition, rows, scores.weighed.scores, scores.fallback)
    records = rule.decisions.records(
        partition, joined, wanted, scores.weighed, now_ms, attempt=named.attempt, taken=taken
    )
    made = dict(zip(wanted.tolist(), records, strict=True))
    return {row: made.get(row, Record(None, None, 0)) for row in times_ms}


def _without_answer(stage: StageRows, reason: str) -> StageRows:
    """As if it had not answered: what came later than a decision is no part of it."""
    nobody = np.zeros(len(stage.present), np.bool_)
    return replace(
        stage, present=nobody, delivered=nobody, signal=np.zeros_like(stage.signal), failures=(),
        unanswered=reason,  # type: ignore[arg-type]  # one of Reason, see _named
    )  # fmt: skip


def are_same(recorded: Sequence[ConsumerRecord], made: Sequence[Record]) -> bool:
    """Whether all are by `is_same`, and what headers are added stand last.

    Column by column, as nearly always they are.
    """
    if [record.value for record in recorded] != [record.value for record in made]:
        return False
    if [record.key for record in recorded] != [record.key for record in made]:
        return False
    known: tuple[int, object] = (-1, None)
    for record, own in zip(recorded, made, strict=True):
        headers, n = record.headers, len(own.headers)
        if headers[:n] != own.headers:
            return False
        if (added := (n, headers[n:])) != known:
            names = {name for name, _ in own.headers}
            if any(name in names for name, _ in headers[n:]):
                return False
            known = added
    return True


def is_same(recorded: ConsumerRecord, made: Record) -> bool:
    """To the byte; workers may add headers of their own to those of a decision."""
    if recorded.value != made.value or recorded.key != made.key:
        return False
    headers = tuple(made.headers)
    if tuple(recorded.headers) == headers:
        return True
    ours = {name for name, _ in headers}
    return Counter(header for header in recorded.headers if header[0] in ours) == Counter(headers)


def fields_of(record: ConsumerRecord) -> dict[str, Any]:
    """What a decision record says. ValueError for what is no JSON object."""
    fields = orjson.loads(record.value or b"")
    if not isinstance(fields, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004  # of what a topic holds
    return fields


def _named(fields: Mapping[str, Any], record: ConsumerRecord) -> _Named:
    """What a decision was made by. Raises ValueError, KeyError or TypeError."""
    try:
        provenance = provenance_of(fields)
    except ValidationError as exc:
        raise ValueError(f"its provenance: {exc.errors()[0]['msg']}") from exc
    weights, policy = fields["weights"], fields["policy"]
    if type(weights) is not int or type(policy) is not str:
        raise ValueError("weights and policy are a number and a name")
    reasons = fields.get("missing_because", {})
    if not isinstance(reasons, dict):
        raise ValueError("missing_because is no object")  # noqa: TRY004  # of what a topic holds
    unanswered = tuple(sorted((name, why) for name, why in reasons.items() if why != "failed"))
    if any(why not in ("down", "late", "unknown") for _, why in unanswered):
        raise ValueError("missing_because has a reason that there is not")
    is_late = fields.get("decided_by") == "late"
    return _Named(weights, policy, provenance, is_late, unanswered, attempt_of(record.headers))


def first_difference(recorded: ConsumerRecord, made: Record) -> tuple[str, str, str]:
    """The first field that differs, and both values.

    One that this version does not write differs, too: nobody has made it again.
    """
    if made.value is None:
        return "decision", str(fields_of(recorded).get("decision")), "none: it has no quorum"
    before, now = fields_of(recorded), orjson.loads(made.value)
    for field, was, value in _pairs(before, now):
        if was != value or type(was) is not type(value):
            return field, _shown(was), _shown(value)
    if recorded.key != made.key:
        return "key", repr(recorded.key), repr(made.key)
    if recorded.value != made.value:
        return _RECORD, "the same fields, written otherwise", "as Anabranch writes them"
    return "headers", repr(recorded.headers), repr(made.headers)


def _pairs(before: Any, now: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    """What is made now, value by value, and what was there before."""
    if isinstance(now, dict) and isinstance(before, dict) and (now or before):
        for name in [*now, *(name for name in before if name not in now)]:
            below = f"{at}.{name}" if at else name
            yield from _pairs(before.get(name), now.get(name), below)
    else:
        yield at, before, now


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value!r} ({value.hex()})"
    return orjson.dumps(value).decode()


def _decision_times(records: Mapping[int, ConsumerRecord]) -> dict[int, int]:
    """When rows were decided, by the headers of their records; not of what has none."""
    times: dict[int, int] = {}
    known: dict[bytes, int] = {}  # those of a batch were decided at once
    for row, record in records.items():
        headers = record.headers
        name, value = headers[1] if len(headers) > 1 else ("", b"")
        if name != "ce_time" or value is None:
            value = dict(headers).get("ce_time") or b""
        if value not in known:
            try:
                known[value] = _milliseconds(value.decode())
            except (ValueError, OverflowError):
                continue
        times[row] = known[value]
    return times


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
