"""What a replay has found: how much was made again and is the same, and what was not made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from topics.records import Source

EARLY = "early"
HISTORY = "history"
LATE = "late"
PASSED_OVER = "passed over"
OWN_CODE = "own code"
OTHER_FEATURES = "other features"
REDRIVEN = "redriven"
GONE = "gone"
CLASSES = {
    EARLY: "did not wait for a source partition that was down",
    HISTORY: "their windows reach back further than the events that are still there",
    LATE: "what their windows see came later than they did, or they came too late themselves",
    PASSED_OVER: "a worker ended at them, or their output was too large to be written",
    OWN_CODE: "by a component of your own that is not declared deterministic",
    OTHER_FEATURES: "by a pipeline file with other features than that of the first decision",
    REDRIVEN: "dead letters that were redriven: with windows of that time",
    GONE: "redriven, and what travelled with them is no longer there: not made again at all",
}
"""Class of outputs that are taken as they are recorded → why they are not made again."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Difference(_Model):
    """Where what is made now is not what was recorded."""

    source: Source
    stage: str
    """The component, or `weigh` for the decision."""
    field: str
    recorded: str
    recomputed: str


class StageCount(_Model):
    """Rows of one component."""

    same: int
    """Made again, and the same to the bit; rows without an output because of their input, too."""
    taken: dict[str, int] = Field(default_factory=dict)
    """Class → rows that were taken as they are recorded."""
    different: int = 0


class ReplayedRange(_Model):
    """Events of a partition, from offset `start` on and before `end`."""

    partition: int
    start: int
    end: int
    warm_up: int
    """Events before it that windows were made from."""


class ReplayReport(_Model):
    """The result of an unaltered replay."""

    pipeline: str
    ranges: list[ReplayedRange]
    events: int
    decisions: int
    """All that are recorded of these events."""
    recomputed: int
    """Made again from the raw event, every stage of them, and the same to the byte."""
    taken: dict[str, int]
    """Class → decisions that are the same to the byte, of which a stage's output was taken as it is
    recorded; a decision may be of several classes."""
    partly_taken: int
    """All of these decisions."""
    different: int
    """Decisions that are not the same, or of which a stage's output is not."""
    dead_letters: dict[str, int]
    """Class of error → events whose first attempt ended in a dead letter; redriven ones may have a
    decision all the same."""
    undecided: int
    """Events with neither decision nor dead letter, which may be on their way."""
    lost: int
    """Events with neither, though later ones of their partition are decided: differences."""
    repeated: int
    """Further decisions of a first attempt: each is made again, and is a difference unless it is
    the same; not among `decisions`."""
    misplaced: int
    """Decisions that stand behind those of later events: differences."""
    foreign: int
    """Records among the decisions that are about no event of the partition they stand in."""
    unnamed: int
    """Decisions from before they named their pipeline file: made by the one that was given."""
    stages: dict[str, StageCount]
    pipeline_files: list[str]
    policies: list[str]
    weights: list[str]
    models: list[str]
    """What the decisions name."""
    first_difference: Difference | None
    """The first that was found, by partition and offset."""
    seconds: float

    @property
    def passed(self) -> bool:
        """Everything that was made again is the same."""
        return self.first_difference is None

    @property
    def events_per_s(self) -> float:
        """Of the range, without the warm-up."""
        return self.events / self.seconds if self.seconds else 0.0


class Tally:
    """Counts while a replay goes on."""

    def __init__(self) -> None:
        self.events = self.decisions = self.recomputed = self.partly_taken = 0
        self.different = self.undecided = self.unnamed = 0
        self.lost = self.repeated = self.misplaced = self.foreign = 0
        self.taken, self.dead_letters = Counter[str](), Counter[str]()
        self.same, self.stage_different = Counter[str](), Counter[str]()
        self.stage_taken: dict[str, Counter[str]] = {}
        self.redriven_in: set[int] = set()
        """Partitions that may have decisions about redriven events of their range."""
        self.passed_by: dict[int, set[int]] = {}
        """Partition → source offsets of events without an end, though later ones have theirs."""
        self.first: Difference | None = None
        """By partition and offset."""

    def differ(self, difference: Difference) -> None:
        """Note a difference: the first, by partition and offset, is told."""
        first = self.first
        at = difference.source.partition, difference.source.offset
        if first is None or at < (first.source.partition, first.source.offset):
            self.first = difference

    def take(self, stage: str, kind: str, rows: int) -> None:
        """Rows of a stage are taken as they are recorded."""
        if rows:
            self.stage_taken.setdefault(stage, Counter())[kind] += rows

    def add(self, other: Tally) -> None:
        """Count what was counted elsewhere, of other partitions."""
        for name in (
            "events",
            "decisions",
            "recomputed",
            "partly_taken",
            "different",
            "undecided",
            "unnamed",
            "lost",
            "repeated",
            "misplaced",
            "foreign",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("taken", "dead_letters", "same", "stage_different"):
            getattr(self, name).update(getattr(other, name))
        for stage, kinds in other.stage_taken.items():
            self.stage_taken.setdefault(stage, Counter()).update(kinds)
        if other.first is not None:
            self.differ(other.first)


class ReplayPart(NamedTuple):
    """What was found of some partitions."""

    tally: Tally
    ranges: list[ReplayedRange]
    named: dict[str, list[str]]
    """What the decisions name."""


def report_of(
    pipeline: str, parts: Sequence[ReplayPart], stages: Sequence[str], seconds: float
) -> ReplayReport:
    """All that was found, in so many *seconds*, of the components *stages*."""
    tally, named = Tally(), dict[str, set[str]]()
    for part in parts:
        tally.add(part.tally)
        for kind, names in part.named.items():
            named.setdefault(kind, set()).update(names)
    return ReplayReport(
        pipeline=pipeline, ranges=sorted((of for part in parts for of in part.ranges), key=_place),
        events=tally.events, decisions=tally.decisions, recomputed=tally.recomputed,
        taken=dict(tally.taken), partly_taken=tally.partly_taken, different=tally.different,
        dead_letters=dict(tally.dead_letters), undecided=tally.undecided, unnamed=tally.unnamed,
        lost=tally.lost, repeated=tally.repeated, misplaced=tally.misplaced,
        foreign=tally.foreign,
        stages={
            name: StageCount(
                same=tally.same[name], taken=dict(tally.stage_taken.get(name, {})),
                different=tally.stage_different[name],
            )
            for name in stages
        },
        first_difference=tally.first, seconds=seconds,
        **{kind: sorted(names) for kind, names in named.items()},
    )  # fmt: skip


def _place(of: ReplayedRange) -> tuple[int, int]:
    return of.partition, of.start
