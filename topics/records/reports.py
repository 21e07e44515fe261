"""The reports topic: what workers say of themselves.

`<pipeline>.reports` is compacted, and all its records are on partition 0. Workers write it, and
only read `<pipeline>.control`. A record is what its key is about, as it is now:

    status/<worker's name>/<process>         StatusReport: how the partitions fare that it owns
    worker/<component>/<process>             WorkerReport: what it does run, or has refused
    first/<component>/<version>/<partition>  FirstOffset: from which source row on
    topics                                   TopicIds: which topics the last worker has dealt with

A process that ends in order deletes the first two of its own. Of one that does not, they are
deleted once nothing was heard of it for FORGOTTEN_S: by each worker that starts, and by commands
that look at the status or change what is in service. Of what a component began with, VERSIONS_KEPT
versions stay.

How old a record is, is told by its timestamp: the broker's clock, as `topics.records.broker_setup`
has it, or else the worker's. Readers take it that their own clock is within a second or two of
that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from topics.errors import WireError
from topics.kafka import Record

PARTITION = 0
TOPICS_KEY = "topics"
"""The key of TopicIds."""
FORGOTTEN_S = 24 * 3600.0
"""After so long without a word of a process, its entries are deleted."""
VERSIONS_KEPT = 20
"""Of so many versions, those that began last, it is remembered where they have begun."""

_LONGEST_NAME = 200

Version = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(max_length=1000)]
_Milliseconds = Annotated[int, Field(ge=0, le=2**62)]
_Short = Annotated[str, Field(max_length=300)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]
State = Literal["starting", "working", "waiting"]
M = TypeVar("M", bound=BaseModel)


class WorkerReport(BaseModel):
    """What a worker says of the last thing that it was to run, as champion or challenger."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    version: Version
    state: Literal["running", "refused"]
    reason: Text = ""
    """Why it is refused, and what runs instead."""
    at: str


class FirstOffset(BaseModel):
    """The first source row of a partition that was dealt with under a version.

    When the version comes back, the row with which it does. A repartitioned component's rows come
    in lanes: it is the first row of the lane that was first.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    offset: Annotated[int, Field(ge=0, le=2**62)]
    worker: Text
    at: str


class TopicIds(BaseModel):
    """The topics of the pipeline as workers have dealt with them: one made anew has another id."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    ids: Annotated[dict[_Short, _Short], Field(max_length=10_000)]
    """By topic, of those that the worker's pipeline file has: one that is dropped from the file
    may be deleted, and made again with it."""


class InService(BaseModel):
    """A version that a worker runs: a model, weights or a policy."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    what: _Short
    """A component, `weights` or `policy`."""
    version: _Short
    """What decisions call it, such as `risk-forest@2`."""
    digest: _Short = ""
    variant: _Short = ""
    challenger: bool = False
    """It runs beside the champion."""


class AwaitedInput(BaseModel):
    """An input that rows wait for."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer worker may say more

    since_ms: _Milliseconds
    """Since when (milliseconds since 1970)."""
    down: bool = False
    """It has given neither output nor sign of life for the stall time-out, or its own input is
    down, or it ends again and again at one row."""
    why: Annotated[str, Field(max_length=300)] = ""
    """What is known of the reason, for people."""


class PartitionStatus(BaseModel):
    """One partition of one component."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer worker may say more

    partition: Annotated[int, Field(ge=0, lt=2**31)]
    state: State
    waiting_for: dict[_Name, AwaitedInput] = Field(default_factory=dict)
    """Input → since when; `name[lane]` for one lane of a repartitioned component. For the
    weighting agent also stages that are down and no longer waited for."""
    rows: Annotated[int, Field(ge=0)] = 0
    """Rows that it holds because they wait."""
    oldest_ms: _Milliseconds | None = None
    """When the oldest of them was published (milliseconds since 1970)."""
    lag: Annotated[int, Field(ge=0)] = 0
    """Records of its inputs that it has not dealt with."""


class StatusReport(BaseModel):
    """How a worker fares. One that is silent for the stall time-out is down."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer worker may say more

    state: Literal["starting", "running"]
    """Starting until it has joined its consumer group."""
    started_ms: _Milliseconds
    """When its process began (milliseconds since 1970, as all times here, by its own clock)."""
    said_ms: _Milliseconds
    """When this was true."""
    sequence: Annotated[int, Field(ge=0)] = 0
    """Counts this process' reports."""
    in_service: Annotated[tuple[InService, ...], Field(max_length=1000)] = ()
    partitions: Annotated[tuple[PartitionStatus, ...], Field(max_length=10_000)] = ()
    """Those that it owns."""


class TimedReport(NamedTuple):
    """A status report, and when the broker had it (milliseconds since 1970)."""

    report: StatusReport
    at_ms: int


@dataclass(slots=True)
class ReportState:
    """What workers have said, record by record; of older workers, on the control topic."""

    workers: dict[tuple[str, str], WorkerReport] = field(default_factory=dict)
    """By component and process."""
    firsts: dict[tuple[str, int, int], FirstOffset] = field(default_factory=dict)
    """By component, version and partition."""
    statuses: dict[tuple[str, str], TimedReport] = field(default_factory=dict)
    """By the worker's name and its process."""
    newest_ms: int = field(default=0, compare=False)
    """When the newest report was written: by the broker's clock, which no worker sets."""
    topics: TopicIds | None = None
    _told: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Of what processes say of themselves: key → on which topic, and when."""
    _first_on: dict[tuple[str, int, int], str] = field(default_factory=dict, compare=False)
    """On which topic each of the first offsets is."""

    def apply(self, topic: str, key: bytes | None, value: bytes | None, at_ms: int) -> None:
        """Take in one record, in order. WireError for one that is none of these."""
        try:
            text = (key or b"").decode()
            kind, *names = text.split("/")
            if any(not 0 < len(name) <= _LONGEST_NAME for name in names):
                raise ValueError(f"a name in its key has not 1 to {_LONGEST_NAME} characters")
            self._take(kind, names, value, at_ms)
        except (ValidationError, ValueError) as exc:
            reason = str(exc).splitlines()[0]
            raise WireError(f"not a report of a worker: {reason}") from exc
        self.newest_ms = max(self.newest_ms, at_ms)
        if kind == "first":
            component, version, partition = names
            self._first_on[component, int(version), int(partition)] = topic
        elif value is None:
            self._told.pop(text, None)
        elif kind != TOPICS_KEY:
            self._told[text] = (topic, at_ms)

    def _take(self, kind: str, names: list[str], value: bytes | None, at_ms: int) -> None:
        match kind, names:
            case "status", [name, process]:
                report = _read(StatusReport, value)
                _put(self.statuses, (name, process), report and TimedReport(report, at_ms))
            case "worker", [component, process]:
                _put(self.workers, (component, process), _read(WorkerReport, value))
            case "first", [component, version, partition]:
                at = (component, int(version), int(partition))
                _put(self.firsts, at, _read(FirstOffset, value))
            case "topics", []:
                self.topics = _read(TopicIds, value)
            case _:
                raise ValueError(f"nothing here has the key {kind[:40]!r}")

    def keys_of(self, processes: Collection[str], names: Collection[str]) -> dict[str, None]:
        """Tombstones for what *processes* have said of workers and components in *names*."""
        keys: dict[str, None] = {}
        for key in self._told:
            _, name, process = key.split("/")
            if process in processes and name in names:
                keys[key] = None
        return keys

    def forget(self, now_ms: int) -> dict[str, list[str]]:
        """Leave out processes that were not heard of for FORGOTTEN_S: topic → keys to delete.

        What a process runs is said once, that it lives again and again.
        """
        before = now_ms - FORGOTTEN_S * 1000
        alive = {process for (_, process), heard in self.statuses.items() if heard.at_ms > before}
        keys: dict[str, list[str]] = {}
        for key, (topic, at_ms) in list(self._told.items()):
            kind, name, process = key.split("/")
            if at_ms > before or (kind == "worker" and process in alive):
                continue
            keys.setdefault(topic, []).append(key)
            del self._told[key]
            entries: dict[tuple[str, str], Any] = (
                self.statuses if kind == "status" else self.workers
            )
            entries.pop((name, process), None)
        for at in self._old_firsts():
            keys.setdefault(self._first_on[at], []).append(first_key(*at))
            del self.firsts[at]
        return keys

    def _old_firsts(self) -> list[tuple[str, int, int]]:
        """First offsets of versions that have begun before many others."""
        begun: dict[str, dict[int, str]] = {}
        for (component, version, _), first in self.firsts.items():
            versions = begun.setdefault(component, {})
            versions[version] = max(versions.get(version, ""), first.at)
        kept = set()
        for component, versions in begun.items():
            by_time = sorted((at, version) for version, at in versions.items())
            kept |= {(component, version) for _, version in by_time[-VERSIONS_KEPT:]}
        return [at for at in self.firsts if at[:2] not in kept]


def _read(kind: type[M], value: bytes | None) -> M | None:
    return None if value is None else kind.model_validate_json(value)


def _put(entries: dict[Any, Any], at: object, entry: object | None) -> None:
    """Set an entry; None, which a tombstone says, deletes it."""
    if entry is None:
        entries.pop(at, None)
    else:
        entries[at] = entry


def is_report(key: bytes | None) -> bool:
    """Whether a record of the control topic is a report, as older workers wrote them there."""
    return (key or b"").startswith((b"worker/", b"first/"))


def status_key(worker: str, process: str) -> str:
    """The key of a StatusReport."""
    return f"status/{worker}/{process}"


def worker_key(component: str, process: str) -> str:
    """The key of a WorkerReport."""
    return f"worker/{component}/{process}"


def first_key(component: str, version: int, partition: int) -> str:
    """The key of a FirstOffset."""
    return f"first/{component}/{version}/{partition}"


def keyed_records(entries: Mapping[str, BaseModel | None], now_ms: int) -> list[Record]:
    """Records by key, in order, for this topic and the control topic; None is a tombstone."""
    headers: list[tuple[str, Any]] = [("content-type", b"application/json")]
    return [
        Record(
            key.encode(),
            None if value is None else value.model_dump_json(exclude_defaults=True).encode(),
            now_ms,
            headers,
        )
        for key, value in entries.items()
    ]
