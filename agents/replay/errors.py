"""Why a range cannot be replayed, or nothing can be said of a change.

AnabranchError
├── BadRange         words that name no range
├── RangeGone        events that are asked for, or what was written of them, are no longer there
├── NothingRecorded  there are no events in the range
├── NothingDecided   no decision is about an event in the range
├── PinGone          what a decision names is another thing here, or nowhere
├── NotMadeAgain     events cannot be replayed, for one of the reasons above or a model's
├── OtherStages      a decision weighed other stages than the pipeline file
├── PolicyUnknown    nothing says what thresholds a policy had
├── PolicyDiffers    thresholds are not those that decided
├── WeightsDiffer    weights are not those that decided
├── NotAField        an event has no such field to make segments of
├── NotRecomputable  a component whose output a what-if cannot make again
├── BadCondition     the condition of a gate is none
├── UnknownFigure    a condition names a figure that there is not
└── GateRefused      a condition is not true, or nobody can know
"""

from __future__ import annotations

from collections.abc import Sequence

from topics.errors import AnabranchError
from topics.records import Source


class BadRange(AnabranchError):
    """Words that name no range of events."""

    def __init__(self, word: str, why: str) -> None:
        super().__init__(f"{word!r} names no events: {why}")


class RangeGone(AnabranchError):
    """Events that are asked for, or what was written of them, are no longer on a topic."""

    def __init__(self, topic: str, partition: int, wanted: int, first: int) -> None:
        super().__init__(
            f"{topic}[{partition}] tells of no event before offset {first:,} any more, and "
            f"{wanted:,} is asked for: replay from {partition}/{first} on"
        )


class NothingRecorded(AnabranchError):
    """There are no events in the range."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"{topic} holds no events in that range: `anabranch status` says how far it reaches"
        )


class PinGone(AnabranchError):
    """What a decision names is another thing here, or nowhere."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(
            f"{what}, which decisions of that range name, is not what {where} has: replay with the "
            "registry (ANABRANCH_REGISTRY), pipeline file and code that decided"
        )


class NotMadeAgain(AnabranchError):
    """Events, which *cause* keeps from being replayed."""

    def __init__(self, topic: str, partition: int, first: int, last: int, cause: Exception) -> None:
        super().__init__(f"{topic}[{partition}]@{first} to {last} cannot be replayed: {cause}")


class NothingDecided(AnabranchError):
    """No decision is about an event in the range."""

    def __init__(self, topic: str, read: int) -> None:
        super().__init__(
            f"{topic} holds no decision about events in that range ({read:,} records were looked "
            "at): they may be in flight, dead letters, or gone by retention"
        )


class OtherStages(AnabranchError):
    """A decision weighed other stages than the pipeline file."""

    def __init__(self, source: Source, recorded: Sequence[str], stages: Sequence[str]) -> None:
        at = f"{source.topic}/{source.partition}/{source.offset}"
        super().__init__(
            f"the decision about {at} weighs {', '.join(recorded)}, the pipeline file "
            f"{', '.join(stages)}: use the file that was in service then, or a range of later "
            "decisions"
        )


class PolicyUnknown(AnabranchError):
    """Nothing says what thresholds a policy had."""

    def __init__(self, policy: str, decisions: int) -> None:
        super().__init__(
            f"{decisions:,} decisions are by policy {policy}, and neither the registry, the "
            "pipeline file nor the control topic knows its thresholds: give thresholds for all "
            "with --policy FILE, or a range without them"
        )


class PolicyDiffers(AnabranchError):
    """Thresholds are not those that decided."""

    def __init__(self, policy: str, at: Source, decided: str, said: str) -> None:
        super().__init__(
            f"policy {policy}, as the registry, the pipeline file or the control topic has it, "
            f"does not decide as was decided: of {at.topic}/{at.partition}/{at.offset} it says "
            f"{said}, the decision is {decided}. Use the file that was in service then, or give "
            "thresholds for all with --policy FILE"
        )


class WeightsDiffer(AnabranchError):
    """Weights are not those that decided."""

    def __init__(self, version: int, at: Source, score: float, said: float) -> None:
        which = f"weights@{version}" if version else "the pipeline file's weights"
        super().__init__(
            f"{which} give {at.topic}/{at.partition}/{at.offset} the score {said!r}, its decision "
            f"says {score!r}: use the registry and the pipeline file that were in service then, "
            "or name weights for all with --weights"
        )


class NotAField(AnabranchError):
    """An event has no such field to make segments of."""

    def __init__(self, field: str, there: Sequence[str]) -> None:
        super().__init__(
            f"--segment {field}: an event has no such field; it has {', '.join(there)}"
        )


class NotRecomputable(AnabranchError):
    """A component whose output a what-if cannot make again."""

    def __init__(self, component: str, why: str) -> None:
        super().__init__(f"--model {component}: {why}")


class BadCondition(AnabranchError):
    """The condition of a gate is none."""

    def __init__(self, text: str, at: int, cause: str) -> None:
        self._shown = [f"  {text}", f"  {' ' * (at - 1)}^"]
        super().__init__(f"--if: at character {at}: {cause}")

    @property
    def lines(self) -> list[str]:
        """The message, and the place below the condition."""
        return [f"error: {self}", *self._shown]


class UnknownFigure(AnabranchError):
    """A condition names a figure that there is not."""

    def __init__(self, name: str, there: Sequence[str]) -> None:
        super().__init__(f"--if: there is no figure {name!r}; there are {', '.join(there)}")


class GateRefused(AnabranchError):
    """A condition is not true, or nobody can know: there is a line for each figure."""

    def __init__(
        self, what: str, condition: str, figures: Sequence[str], notes: Sequence[str]
    ) -> None:
        self._figures, self._notes = figures, notes
        super().__init__(f"{what} is not promoted: {condition!r} is not true of what was replayed")

    @property
    def lines(self) -> list[str]:
        """The message, the figures, and what they leave open."""
        figures = [f"  {figure}" for figure in self._figures]
        return [f"error: {self}", *figures, *(f"  {note}" for note in self._notes)]
